"""An environment in which no network and no data are to be had, but compiled kernels are."""

from npnet.kernels.machine import cache


def offline(folder):
    """Return variables of the environment that keep everything in `folder`."""
    own = folder / "cache"
    own.mkdir()
    if kernels := cache.folder():
        (own / "kernels").symlink_to(kernels.parent)  # so that nothing is compiled twice
    return {
        "NPNET_CACHE": str(own),
        "KERAS_HOME": str(folder / "keras"),
        "NPNET_CIFAR10_URL": "http://127.0.0.1:9/cifar-10-binary.tar.gz",
    }
