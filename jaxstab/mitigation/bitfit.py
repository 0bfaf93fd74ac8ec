"""BitFit: only biases and the new head are trained."""

from jaxstab.mitigation.method import Context, Method, Path


def bitfit() -> Method:
    """Returns the method; the classifier is trained whole, and so is what the checkpoint lacks."""

    def trained(path: Path, context: Context) -> bool:
        return path[-1] == "bias" or path[0] in (*context.missing, "classifier")

    return Method(about="only biases and the new head are trained", source="Ben Zaken et al. (2022)", trained=trained)
