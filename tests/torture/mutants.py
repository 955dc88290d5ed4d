"""The recorder with one of its rules broken, to see that the programme would find that.

A mutant is the recorder's own source, loaded a second time under another name with one
place changed. The modules in use are not touched.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final, NamedTuple

from tests.torture.simulated_disk import Fault
from tests.torture.world import Program

ORIGINAL: Final = "flightlog.recorder"
_FOLDER: Final = Path(importlib.import_module(ORIGINAL).__path__[0])


class Mutant(NamedTuple):
    """One broken rule.

    Attributes:
        name: of the mutant.
        rule: the sentence that no longer holds.
        module: where, below the recorder's package.
        old: what stands there now, exactly once.
        new: what stands there instead.
        scenario: what shows it.
        faults: how the disk fails meanwhile.
    """

    name: str
    rule: str
    module: str
    old: str
    new: str
    scenario: str
    faults: Sequence[Fault] = ()


class StaleMutantError(LookupError):
    """The source no longer has what the mutant changes."""


def source_of(mutant: Mutant) -> str:
    """The changed module.

    Raises:
        StaleMutantError: the place to change is not there, or not only once.
    """
    path = _FOLDER.joinpath(*mutant.module.split(".")).with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    if source.count(mutant.old) != 1:
        raise StaleMutantError(f"{mutant.name}: {source.count(mutant.old)} places in {path.name}")
    return source.replace(mutant.old, mutant.new)


@contextmanager
def broken(mutant: Mutant | None) -> Iterator[Program]:
    """The recorder with that rule broken; with None a second one as it is."""
    finder = _Finder("flightlog_with_" + (mutant.name if mutant else "all_rules"), mutant)
    sys.meta_path.insert(0, finder)
    try:
        yield Program(finder.package)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if finder.has(name)]:
            del sys.modules[name]


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of the copy and loads them from the original's source."""

    def __init__(self, package: str, mutant: Mutant | None) -> None:
        self.package = package
        self._changed = {} if mutant is None else {mutant.module: source_of(mutant)}

    def has(self, name: str) -> bool:
        """True for a module of the copy."""
        return name == self.package or name.startswith(self.package + ".")

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if not self.has(fullname):
            return None
        is_package = _FOLDER.joinpath(*self._below(fullname)).is_dir()
        return importlib.util.spec_from_loader(fullname, self, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code(module.__name__), module.__dict__)

    def _below(self, name: str) -> list[str]:
        return name.split(".")[1:]

    def _code(self, name: str) -> CodeType:
        place = _FOLDER.joinpath(*self._below(name))
        path = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        changed = self._changed.get(".".join(self._below(name)))
        source = path.read_text(encoding="utf-8") if changed is None else changed
        tree = ast.parse(source, str(path))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                node.module = self._renamed(node.module)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    alias.name = self._renamed(alias.name)
        return compile(tree, str(path), "exec")

    def _renamed(self, module: str) -> str:
        if module == ORIGINAL or module.startswith(ORIGINAL + "."):
            return self.package + module.removeprefix(ORIGINAL)
        return module


_MESSAGES_PUBLISHED: Final = (
    "        if messages.rows:\n"
    "            seal.segments.append("
    "messages.publish([Part(journal_id, messages.rows)]))\n"
)
_EVENTS_PUBLISHED: Final = (
    "        seal.segments.append(events.publish([Part(journal_id, events.rows, chain.head)]))\n"
)

MUTANTS: Final = (
    Mutant(
        "durable_without_sync",
        "A durable append returns after the journal was synced.",
        "journal",
        "                self._disk.fdatasync(self._descriptor)\n",
        "",
        "brief",
    ),
    Mutant(
        "journal_name_not_synced",
        "A durable append returns after the name of the journal was synced.",
        "journal",
        "                    self._disk.sync_folder(self.path.parent)\n",
        "",
        "brief",
    ),
    Mutant(
        "more_claimed_than_synced",
        "A shared sync covers what was appended before it began, not what came meanwhile.",
        "journal",
        "max(self._synced_size, size)",
        "max(self._synced_size, self._state[0])",
        "group_commit",
    ),
    Mutant(
        "failed_sync_forgotten",
        "After a sync that failed no later sync of the journal claims anything.",
        "journal",
        "                    self.sync_error = error\n                    self.is_usable = False\n"
        "                raise\n",
        "                    self._disk.fdatasync(self._descriptor)\n",
        "durable",
        [Fault("fdatasync", 1)],
    ),
    Mutant(
        "short_write_ignored",
        "What a write did not take is written by the next one.",
        "journal",
        "            if written != len(content):\n"
        "                self._disk.write_all(self._descriptor, content[written:])\n",
        "",
        "plain",
        [Fault("write", 5, error=None)],
    ),
    Mutant(
        "torn_write_left",
        "What a failed write has left in the journal is cut off.",
        "journal",
        "            self._undo()\n            raise\n",
        "            self._pending = None\n            raise\n",
        "plain",
        [Fault("write", 5)],
    ),
    Mutant(
        "sequence_used_twice",
        "A failed write's sequence number is used again only once its bytes are gone.",
        "journal",
        "            self._undo()\n            raise\n",
        "            self._pending = None\n            raise\n",
        "plain",
        [Fault("write", 5, part=1.0)],
    ),
    Mutant(
        "name_before_header",
        "A journal has its header before it has its name.",
        "journal",
        "        disk.write_all(descriptor, content)\n        disk.rename(temporary, path)\n",
        "        disk.rename(temporary, path)\n        disk.write_all(descriptor, content)\n",
        "killed",
    ),
    Mutant(
        "blob_not_synced",
        "A durable event's blobs are synced before its journal is.",
        "journal",
        "sync_files(self._disk, fresh - self._synced_files)\n",
        "pass\n",
        "brief",
    ),
    Mutant(
        "blob_trusted_after_failed_sync",
        "After a sync that failed a blob that reads well is written anew.",
        "recorder",
        "self._layout = replace(self._layout, trusts_cache=False)",
        "pass",
        "same_blob",
        [Fault("fdatasync", 0)],
    ),
    Mutant(
        "no_crc",
        "A frame whose checksum is wrong is no record.",
        "frames",
        "    if _CRC.unpack_from(data, stop - 4)[0] != _crc32(body, seed if sequence else 0):\n"
        "        return None\n",
        "",
        "killed",
    ),
    Mutant(
        "crc_of_any_journal",
        "A frame of another journal, left on the disk from before, is no record of this one.",
        "frames",
        "    return _crc32(journal_id.encode())\n",
        "    return 0\n",
        "killed",
    ),
    Mutant(
        "zero_tail_accepted",
        "Zeros at the end of a journal are told as damage.",
        "frames",
        "        bad_start = position\n        if found is None:\n",
        "        bad_start = position\n        if not data[position:].strip(b'\\0'):\n"
        "            return\n        if found is None:\n",
        "durable",
    ),
    Mutant(
        "segment_not_synced",
        "A segment gets its name after its bytes were synced.",
        "segment",
        "        file.sync()\n",
        "        file._write_gathered()\n",
        "brief",
    ),
    Mutant(
        "segment_renamed_before_sync",
        "A segment is complete and synced before readers see it.",
        "segment",
        "        file.sync()\n",
        "        disk.rename(self._temporary, self.path)\n"
        "        self._temporary = self.path\n"
        "        file.sync()\n",
        "brief",
    ),
    Mutant(
        "segment_listed_while_written",
        "A segment has another name until it is complete.",
        "segment",
        'path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY_SUFFIX}")',
        "path",
        "brief",
    ),
    Mutant(
        "segment_folder_not_synced",
        "The name of a segment is synced before its journal is removed.",
        "segment",
        "        disk.sync_folder(self.path.parent)\n",
        "",
        "brief",
    ),
    Mutant(
        "day_folder_not_synced",
        "The name of the folder of a day is synced before a journal is removed.",
        "segment",
        "        disk.sync_folder(self.path.parent.parent)\n",
        "",
        "brief",
    ),
    Mutant(
        "manifest_renamed_before_sync",
        "A manifest gets its name after its bytes were synced.",
        "layout",
        "            disk.fsync(descriptor)\n        finally:\n            disk.close(descriptor)\n"
        "        disk.rename(temporary, path)\n",
        "            disk.rename(temporary, path)\n            disk.fsync(descriptor)\n"
        "        finally:\n            disk.close(descriptor)\n",
        "brief",
    ),
    Mutant(
        "manifest_folder_not_synced",
        "The name of a manifest is synced before a journal is removed.",
        "layout",
        "        raise\n    disk.sync_folder(path.parent)\n",
        "        raise\n",
        "brief",
    ),
    Mutant(
        "journal_removed_before_manifest",
        "A journal is removed after a manifest lists its segments.",
        "seal",
        "    if seal.segments:\n        seal.layout.disk.sync_folder(seal.layout.root)\n",
        "    for path in seal.sealed:\n        seal.layout.disk.unlink(path)\n"
        "    if seal.segments:\n        seal.layout.disk.sync_folder(seal.layout.root)\n",
        "brief",
    ),
    Mutant(
        "events_before_messages",
        "A journal's messages are a segment before its events are, which makes it count as sealed.",
        "seal",
        _MESSAGES_PUBLISHED + _EVENTS_PUBLISHED,
        _EVENTS_PUBLISHED + _MESSAGES_PUBLISHED,
        "brief",
    ),
    Mutant(
        "journal_sealed_unsynced",
        "A journal is synced before it is sealed: a segment never has more than it.",
        "seal",
        "    layout.disk.sync_file(path)\n    try:\n",
        "    try:\n",
        "brief",
    ),
    Mutant(
        "blobs_of_a_dead_writer_not_synced",
        "Sealing syncs the blobs that a dead writer may not have synced.",
        "seal",
        "    sync_files(layout.disk, sorted(",
        "    list(sorted(",
        "brief",
    ),
    Mutant(
        "listed_journal_sealed_again",
        "A journal whose segment a manifest lists is not sealed again.",
        "seal",
        "    return path.is_file() and sha256_of(path) == entry.sha256\n",
        "    return False\n",
        "brief",
    ),
    Mutant(
        "damage_dropped",
        "A damaged piece of a journal is kept and told before the journal is removed.",
        "seal",
        "            _put_aside(seal, path, data, record)\n            continue\n",
        "            continue\n",
        "killed",
    ),
    Mutant(
        "run_that_goes_on_ended",
        "A run that another journal goes on with has not crashed.",
        "seal",
        "            unfinished -= run_ids\n",
        "            pass\n",
        "rotation",
    ),
    Mutant(
        "history_after_removal",
        "Manifests are in the history before their files are removed.",
        "manifest",
        "    write_file(layout, layout.manifests / HISTORY,",
        "    for path in old:\n        layout.disk.unlink(path)\n"
        "    write_file(layout, layout.manifests / HISTORY,",
        "checkpoint",
    ),
    Mutant(
        "name_of_the_dead_not_synced",
        "A manifest that another process wrote is synced before what it replaced is removed.",
        "manifest",
        "        layout.disk.sync_folder(layout.manifests)\n        yield\n",
        "        yield\n",
        "heirs",
    ),
    Mutant(
        "merged_before_manifest",
        "Segments that were merged are removed after a manifest lists the new one.",
        "life.compact",
        '    add_manifest(layout, [entry], replaced=[one.path for one in group], why="compact")\n',
        "    for one in group:\n        layout.disk.unlink(layout.root / one.path)\n"
        '    add_manifest(layout, [entry], replaced=[one.path for one in group], why="compact")\n',
        "merging",
    ),
)
