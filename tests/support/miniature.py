"""CIFAR-10 with a few pictures a batch: as binary and as pickled files, in folders and archives."""

import gzip
import io
import pickle
import struct
import tarfile

import numpy as np

RECORDS = 20
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")


def pictures(seed=0):
    """labels (120,), pixels (120, 3072) of all six batches"""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 10, 6 * RECORDS, np.uint8), rng.integers(0, 256, (6 * RECORDS, 3072), np.uint8)


def arrays(seed=0):
    """What reading must give."""
    labels, pixels = pictures(seed)
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    train = 5 * RECORDS
    return {
        "x_train": images[:train],
        "y_train": labels[:train, None],
        "x_test": images[train:],
        "y_test": labels[train:, None],
    }


def batches(seed=0):
    labels, pixels = pictures(seed)
    for number, name in enumerate(BATCHES):
        rows = slice(number * RECORDS, (number + 1) * RECORDS)
        yield name, labels[rows], pixels[rows]


def binary(seed=0):
    """{name in the archive: content}"""
    return {
        f"cifar-10-batches-bin/{name}.bin": np.hstack([labels[:, None], pixels]).tobytes()
        for name, labels, pixels in batches(seed)
    }


def python(dump, seed=0):
    """The same with ``dump(labels, pixels)`` as the content of a batch."""
    return {f"cifar-10-batches-py/{name}": dump(labels, pixels) for name, labels, pixels in batches(seed)}


def python_3(protocol, key=str.encode, text=str.encode):
    def dump(labels, pixels):
        names = [text(f"picture_{n:06}.png") for n in range(len(labels))]
        batch = {"batch_label": text("training batch"), "labels": labels.tolist(), "data": pixels}
        return pickle.dumps({key(k): v for k, v in {**batch, "filenames": names}.items()}, protocol)

    return dump


def python_2(labels, pixels):
    """The bytes that Python 2's cPickle writes, of which the published files are made."""

    def text(content, put):
        return b"U" + bytes([len(content)]) + content + b"q" + bytes([put])

    n = len(labels)
    return b"".join(
        [
            b"\x80\x02}q\x01(",
            text(b"batch_label", 2) + text(b"training batch 1 of 5", 3),
            text(b"labels", 4) + b"]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e",
            text(b"data", 6) + b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85",
            b"U\x01b\x87Rq\x09(K\x01K" + bytes([n]) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0a",
            text(b"u1", 11) + b"K\x00K\x01\x87Rq\x0c(K\x03" + text(b"|", 13) + b"NNN",
            b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
            + struct.pack("<i", 3072 * n)
            + pixels.tobytes()
            + b"tb",
            text(b"filenames", 14) + b"]q\x0f(" + text(b"a.png", 16) * n + b"eu.",
        ]
    )


def tar(files, **options):
    """The bytes of a .tar with these files: {name: content, or a TarInfo without content}."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", **options) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def archive(files, compresslevel=1, **options):
    return gzip.compress(tar(files, **options), compresslevel, mtime=0)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
