"""Data sets and models on the Hugging Face hub: what their names mean, and the commits that these stand for."""

from __future__ import annotations

import dataclasses
import functools
import re
from dataclasses import dataclass
from pathlib import Path

from medbench.errors import MedbenchError
from medbench.files import places

_COMMIT = re.compile("[0-9a-f]{40}")
_NAME = re.compile(r"(?:hf://datasets/)?(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+))?(?::(?P<split>\w+))?")


@dataclass(frozen=True)
class DataSet:
    """One split of a data set.

    Attributes:
        id: ``owner/name``.
        revision: a commit, branch or tag.
        split: its name.
    """

    id: str
    revision: str = "main"
    split: str = "train"

    def __str__(self) -> str:
        return f"{self.id}@{self.revision}:{self.split}"

    def pinned(self) -> DataSet:
        """The same split at the commit that its revision stands for now.

        Raises:
            MedbenchError: see `commit`.
        """
        return dataclasses.replace(self, revision=commit(self.id, self.revision))


def parse(name: str) -> DataSet | None:
    """What ``owner/name@revision:split`` names, by default ``main`` and ``train``; None if it looks like a file."""
    match = _NAME.fullmatch(name)
    if match is None or Path(match["id"]).suffix:
        return None
    return DataSet(match["id"], match["revision"] or "main", match["split"] or "train")


def id_in(source: str) -> str | None:
    """The id in a record's or an item's source on the hub, ``hf://datasets/owner/name@commit...``; None for a file."""
    match = _NAME.match(source) if source.startswith("hf://") else None
    return match["id"] if match else None


@functools.cache  # what is read in one process is of one commit
def commit(repository: str, revision: str) -> str:
    """The commit that a data set's branch or tag stands for now; a commit stands for itself, without a request.

    Raises:
        MedbenchError: the hub cannot be reached, or has no such data set or revision.
    """
    if _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=30).sha)
    except RevisionNotFoundError as error:
        raise MedbenchError(
            f"hub data set {repository} has no revision {revision!r}; expected a commit, a branch or a tag."
        ) from error
    except RepositoryNotFoundError as error:
        raise MedbenchError(
            f"the hub holds no data set {repository} that you may read. Is the name right, and are you logged in if it "
            "is gated or private?"
        ) from error
    except Exception as error:  # the HTTP library below the hub's client raises its own classes, by version
        raise MedbenchError(
            f"hub data set {repository} could not be reached ({type(error).__name__}: {error}). Connect to the hub, "
            "name a commit of 40 digits that is in its cache, or give a local file."
        ) from error


@functools.cache
def require_model(name: str, revision: str | None = None) -> None:
    """Refuse a model that is neither a directory here nor on the hub, by one request: loaders retry for minutes.

    Raises:
        MedbenchError: there is no such directory, and the hub has no such model or cannot be reached.
    """
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if Path(name).expanduser().exists() or try_to_load_from_cache(name, "config.json", revision=revision):
        return
    here = f"no model directory {name!r} (seen from {Path.cwd()})"
    try:
        HfApi().model_info(name, revision=revision, timeout=30)
    except RevisionNotFoundError as error:
        raise MedbenchError(f"{here}; the hub's model of that name has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise MedbenchError(
            f"{here}, and the hub holds no model of that name that you may read. Is the name right, and are you "
            "logged in if it is gated or private?"
        ) from error
    except Exception as error:  # as in `commit`
        raise MedbenchError(
            f"{here}, and the hub could not be asked for one ({type(error).__name__}: {error}). Connect to the hub, or "
            "give a directory that exists."
        ) from error


def model_commit(name: str, revision: str | None = None) -> str | None:
    """The commit of a hub model that was loaded in this process, from the cache; None for a directory."""
    from huggingface_hub import try_to_load_from_cache

    if places.is_remote(name) or Path(name).expanduser().exists():
        return None
    file = try_to_load_from_cache(name, "config.json", revision=revision)
    return Path(file).parent.name if isinstance(file, str) else None
