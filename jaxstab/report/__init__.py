"""Reports: figures, tables and the HTML page. Nothing is computed here."""
