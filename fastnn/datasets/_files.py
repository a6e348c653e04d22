"""Find a data file, or fetch it, and hand out its bytes only if their checksum is a published one.

A file is looked for in three places: the data folder (``data_dir``, else the environment variable ``FASTNN_DATA``), the
user's cache, and the published sources, which are downloaded into the cache. Whatever the place, the bytes are read
once, hashed, and those same bytes are returned: nothing unverified ever reaches a parser or an unpickler, and nothing
can be exchanged between the check and the use.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fastnn import checks
from fastnn.errors import ChecksumError, DataFileError
from fastnn.kernels import user_cache

_ATTEMPTS_AFTER_THE_FIRST = 2  # per source
_TIMEOUT = 30.0  # seconds without a byte before an attempt counts as failed


@dataclass(frozen=True)
class Source:
    """What is known of a published file.

    `digest` is that of the bytes that `urls` (tried in order) serve: SHA-256, or MD5 (32 digits) where no other was
    published, of files that are neither executable nor pickled. `also` holds digests of other copies in circulation
    that carry the same values.
    """

    digest: str
    urls: tuple[str, ...] = ()
    also: frozenset[str] = frozenset()

    @property
    def algorithm(self) -> str:
        """Return what the digests are made by, as hashlib names it."""
        return "md5" if len(self.digest) == 32 else "sha256"

    def digest_of(self, data: bytes) -> str:
        """Return the digest of `data`."""
        return hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest()

    def accepts(self, digest: str) -> bool:
        """Return True if `digest` is one of a good copy."""
        return digest == self.digest or digest in self.also


def _idx_sources(folder: str, digests: dict[str, str], mirrors: tuple[str, ...]) -> dict[str, Source]:
    """Return the table rows of one MNIST-like data set: four files that every mirror serves under the same names."""
    return {
        f"{folder}/{name}": Source(digest, tuple(mirror + name for mirror in mirrors))
        for name, digest in digests.items()
    }


_KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_UCI_HOUSING = "https://archive.ics.uci.edu/ml/machine-learning-databases/housing/housing.data"

# Every file the loaders may ask for: its name under the data folder and under the cache, and where it comes from.
REGISTRY: dict[str, Source] = {
    **_idx_sources(
        "mnist",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        (
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    **_idx_sources(
        "fashion_mnist",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            _KERAS,
        ),
    ),
    "reuters/reuters.npz": Source(
        "d6586e694ee56d7a4e65172e12b3e987c03096cb01eab99753921ef915959916",
        (_KERAS + "reuters.npz",),
    ),
    "reuters/reuters_word_index.json": Source(
        "9b56000edc4b34a32e89fd5a23b2605594682c74efcf7d8f4e2a5514b771e633",
        (_KERAS + "reuters_word_index.json",),
    ),
    "imdb/imdb.npz": Source(
        "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f",
        (_KERAS + "imdb.npz",),
    ),
    "imdb/imdb_word_index.json": Source("bfafd718b763782e994055a2d397834f", (_KERAS + "imdb_word_index.json",)),
    "california_housing/california_housing.npz": Source(
        "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
        (_KERAS + "california_housing.npz",),
    ),
    "cifar10/cifar-10-binary.tar.gz": Source(
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    ),
    "boston_housing/housing.data": Source(
        "baadf72995725d76efe787b664e1f083388c79ba21ef9a7990d87f774184735a",
        (_UCI_HOUSING, f"https://web.archive.org/web/2020id_/{_UCI_HOUSING}"),
        # the same text with one blank behind its last line, as widely copied
        also=frozenset({"4a8425d42eb99b76feb7ee7cf0fb1d897a6cd19b72c437e4855d767cabb7e24e"}),
    ),
    # What Keras downloads, for users who name such a file with `path`.
    "mnist/mnist.npz": Source(
        "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
        (_KERAS + "mnist.npz",),
    ),
    "boston_housing/boston_housing.npz": Source(
        "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
        (_KERAS + "boston_housing.npz",),
    ),
    # Shipped inside the package.
    "digits.csv.gz": Source("e31b7ccbf8cc2b158de948b1bb7a67bf39a856fb064b3aa8ef489f12a2dc4b63"),
    "iris.csv": Source("b6354ddc844092af7f63edb9e8be69cbbdbda3cc3fc80760b6483102df0ab9f2"),
}


def cache_folder() -> Path:
    """Return where downloads are kept: ``datasets`` in the user's cache."""
    return user_cache.folder("datasets")


def read(name: str, *, data_dir: str | os.PathLike[str] | None = None) -> bytes:
    """Return the verified bytes of the `REGISTRY` file `name`.

    Raises
    ------
    DataFileError
        The file is in none of the places and could not be downloaded, or a copy cannot be read.
    ChecksumError
        A copy was found whose digest is not a published one. In the data folder that is final: the folder is the
        user's and never written to. A bad copy in the cache is replaced by a download if that succeeds.
    """
    folder, said_by = _data_folder(data_dir)
    tried = []
    if folder is None:
        tried.append("the data folder: FASTNN_DATA is not set")
    else:
        path = folder / name
        data = _read_if_there(path)
        if data is not None:
            return _verified(data, name, path)
        tried.append(f"{said_by}: no {path}" + ("" if folder.is_dir() else f" (no folder {folder})"))
    return _from_cache_or_download(name, cache_folder() / name, tried)


def is_default(path: str | os.PathLike[str], name: str) -> bool:
    """Return True if `path` is Keras's default for the file `name`: its bare name, which means the usual places."""
    checks.instance("path", path, (str, os.PathLike), "a path (str or os.PathLike)")
    return os.fspath(path) == Path(name).name


def read_at(name: str, path: str | os.PathLike[str]) -> bytes:
    """Return the verified bytes of the `REGISTRY` file `name` kept at `path`, downloaded to there if it is missing.

    A relative `path` is one inside the cache's folder for the data set, as it is in Keras.
    """
    return _from_cache_or_download(name, cache_folder() / Path(name).parent / Path(path).expanduser(), [])


def read_either(name: str, path: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None) -> bytes:
    """Return the verified bytes of the `REGISTRY` file `name`: from the usual places for its bare name, else `path`."""
    return read(name, data_dir=data_dir) if is_default(path, name) else read_at(name, path)


def read_shipped(name: str) -> bytes:
    """Return the verified bytes of the `REGISTRY` file `name` that is part of the package."""
    path = resources.files(__package__).joinpath("data", name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path} is part of fastnn and cannot be read ({error}); reinstall fastnn") from error
    return _verified(data, name, path)


def gunzip(data: bytes, name: str) -> bytes:
    """Return `data` decompressed; DataFileError if it is not a whole gzip stream."""
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise DataFileError(f"{name} is damaged: not a whole gzip stream ({error})") from error


def _data_folder(data_dir: str | os.PathLike[str] | None) -> tuple[Path | None, str]:
    """Return the data folder, None if there is none, and who named it. An explicit `data_dir` must exist."""
    if data_dir is not None:
        folder = Path(data_dir).expanduser()
        if not folder.is_dir():
            raise DataFileError(f"data_dir: got {str(folder)!r}, which is not a folder; wants the folder of data files")
        return folder, "data_dir"
    chosen = os.environ.get("FASTNN_DATA")
    return (Path(chosen).expanduser() if chosen else None), "FASTNN_DATA"


def _read_if_there(path: Path) -> bytes | None:
    """Return the file's bytes, None if there is no such file; DataFileError if there is one and it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _verified(data: bytes, name: str, place: object) -> bytes:
    """Return `data` if its digest is a good one for `name`, else raise ChecksumError."""
    source = REGISTRY[name]
    digest, kind = source.digest_of(data), {"md5": "MD5", "sha256": "SHA-256"}[source.algorithm]
    if not source.accepts(digest):
        raise ChecksumError(
            f"{place} is refused, and nothing in it was read: its {kind} is {digest}, "
            f"that of the published {name} is {source.digest}; delete it or put a good copy in its place"
        )
    return data


def _from_cache_or_download(name: str, path: Path, tried: list[str]) -> bytes:
    """Return verified bytes from `path`; where it is missing or wrong, from the sources, which then fill `path`."""
    failure: type[DataFileError] = DataFileError
    data = _read_if_there(path)
    if data is None:
        tried.append(f"the cache: no {path}")
    else:
        try:
            return _verified(data, name, path)
        except ChecksumError as error:
            failure = ChecksumError
            tried.append(f"the cache: {error}")
    for url in REGISTRY[name].urls:
        try:
            _download(name, url, path)
            return _verified(path.read_bytes(), name, path)
        except (ChecksumError, ValueError) as error:  # ValueError: pooch's, when what it downloaded has another hash
            failure = ChecksumError
            tried.append(f"{url}: {error}")
        except OSError as error:  # no network, an HTTP error, a cache that cannot be written, a full disk
            tried.append(f"{url}: {_root(error)}")
    places = "\n  - ".join([f"{name}: no copy of it that can be used. Tried", *tried])
    raise failure(
        f"{places}\nThree ways out: set FASTNN_DATA to a folder that holds {name}; put the file at {path}; "
        "or connect to the network and run again"
    )


def _download(name: str, url: str, path: Path) -> None:
    """Download `url` to `path` through pooch: into a temporary file, checked against the pin, then renamed."""
    import pooch  # type: ignore[import-untyped]

    store = pooch.create(
        path=path.parent,
        base_url="",
        registry={path.name: f"{REGISTRY[name].algorithm}:{REGISTRY[name].digest}"},
        urls={path.name: url},
        retry_if_failed=_ATTEMPTS_AFTER_THE_FIRST,
    )
    store.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT))


def _root(error: BaseException) -> BaseException:
    """Return the error that started it: what says "name resolution failed" instead of five layers around it."""
    while error.__context__ is not None:
        error = error.__context__
    return error
