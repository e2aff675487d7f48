"""A teacher that is given as a checkpoint file: imported into the store, once for each file."""

from pathlib import Path

from raydistill.config.base import digest
from raydistill.errors import CheckpointError, ConfigError, DataError, StoreError
from raydistill.exchange.import_teacher import import_file
from raydistill.models import saved
from raydistill.reading import file_hash
from raydistill.records import owners, remote, store

SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")
"""How names of checkpoint files end."""


def teacher_folder(given: str, network: str | None, store_given: str, size: tuple[int, int]) -> Path:
    """The folder of the network that --teacher names.

    That of a checkpoint file is in the store's cache, under the digest of the file's content. It is written
    by the first sweep that is given the file.

    Args:
        given: the folder of a network, or a checkpoint file.
        network: which network of the file, see `exchange.checkpoint_files.read_weights`.
        store_given: the results folder or URL.
        size: (height, width) of the pictures that a teacher of pictures is tried on.

    Raises:
        InputError: the file cannot be imported; nothing is left of it.
    """
    path = Path(given)
    if path.is_dir() or not (path.is_file() or path.suffix in SUFFIXES):
        if network is not None:
            raise ConfigError(
                f"--teacher-network {network}: {given} is no checkpoint file, and a folder has one network; "
                "leave it out"
            )
        return path
    try:
        content = file_hash(path)
    except OSError as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ConfigError(f"--teacher {given}: {why}; give the checkpoint file of a generator") from None
    folder = store.open_store(store_given) / "cache" / "imported" / digest([content, network])
    remote.pull(folder)
    if not _is_whole(folder):
        owners.remove(folder)
        try:
            import_file(path, folder, network=network, default_size=size)
        except (ConfigError, DataError) as error:
            raise type(error)(f"--teacher {error}") from None
        except StoreError:
            if not _is_whole(folder):  # else another process was first
                raise
        remote.push(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    try:
        return saved.is_whole(saved.stored(folder, kind="generator"))
    except CheckpointError:
        return False
