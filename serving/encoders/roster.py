"""Who is there: the encoders that serve, what each may be called, and where those stand that do not serve."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from models.bundle.encoder import Encoder, EncoderInfo, Modality
from serving.encoders.batcher import Batcher
from serving.encoders.state import EncoderPhase, EncoderState
from serving.errors import EncoderNotFound, EncoderRefused, InvalidInput, ModalityNotServed, NotReady

__all__ = ["Roster", "RunningEncoder", "version_key"]


@dataclass(frozen=True, slots=True)
class RunningEncoder:
    """An encoder that serves."""

    encoder: Encoder
    batcher: Batcher
    folder: str
    """Name of its bundle's folder."""


def version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    """Returns what versions are sorted by: numbers in them count as numbers, so that 10 comes after 9.

    Args:
        version: A bundle's version, of any form.

    Returns:
        Larger for the newer one.
    """
    parts = re.findall(r"\d+|[^\d.]+", version)
    # A word after the number says that it is not there yet: 2.0rc1 comes before 2.0, which ends with the middle one.
    return (*((2, int(part), "") if part.isdigit() else (0, 0, part) for part in parts), (1, 0, ""))


class Roster:
    """Names and states; everything runs on the event loop.

    An encoder is kept by its reference, `NAME@VERSION`. Its name alone means its newest version, and an alias whatever
    it was pointed at.
    """

    def __init__(self) -> None:
        self.is_loading = False
        """Whether further encoders may come by themselves: nobody knows yet which names there will be."""
        self._running: dict[str, RunningEncoder] = {}
        self._states: dict[str, EncoderState] = {}
        self._aliases: Mapping[str, str] = {}
        self._listeners: list[Callable[[], None]] = []

    @property
    def aliases(self) -> Mapping[str, str]:
        """What each alias means: a reference, or a name."""
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: Mapping[str, str]) -> None:
        self._aliases = dict(aliases)
        self._tell()

    def running(self) -> Mapping[str, RunningEncoder]:
        """Returns the encoders that serve, by reference."""
        return dict(self._running)

    def infos(self) -> list[EncoderInfo]:
        """Returns the encoders that serve, by reference."""
        return [self._running[reference].encoder.info for reference in sorted(self._running)]

    def states(self) -> Mapping[str, EncoderState]:
        """Returns where each encoder stands, by reference; a bundle that does not serve by its folder's name."""
        return dict(self._states)

    def names(self) -> Mapping[str, EncoderState]:
        """Returns everything that a caller may ask for, and where it stands: references, names, folders, aliases."""
        found = dict(self._states)
        for reference, state in self._states.items():
            name, versioned, _ = reference.partition("@")
            if versioned and (name not in found or found[name].phase is not EncoderPhase.SERVING):
                found[name] = state
        for alias, target in self._aliases.items():
            gone = EncoderState(EncoderPhase.REFUSED, f"the alias means '{target}', which is not loaded")
            # While bundles are being loaded its encoder may still come: callers shall ask again.
            found[alias] = found.get(target, EncoderState(EncoderPhase.LOADING) if self.is_loading else gone)
        return found

    def aliases_of(self, info: EncoderInfo) -> list[str]:
        """Returns the names that mean an encoder just now, beside its reference: its own, and aliases."""
        found = {name: self._lookup(name) for name in sorted({info.name, *self._aliases})}
        return [name for name, one in found.items() if one is not None and one.encoder.info == info]

    def state(self, name: str) -> EncoderState:
        """Returns where one encoder stands.

        Args:
            name: Any name that `names` gives.

        Returns:
            Its state.

        Raises:
            NotReady: None of that name is known yet, and bundles are still being loaded.
            EncoderNotFound: There is none.
        """
        found = self.names().get(name)
        if found is not None:
            return found
        if self.is_loading:
            raise NotReady(f"no encoder named '{name}' is loaded yet; try again in a moment", encoder=name)
        raise EncoderNotFound(f"no encoder named '{name}' is under the bundles folder", encoder=name)

    def find(self, name: str, *, space: str = "") -> RunningEncoder:
        """Finds an encoder by name.

        Args:
            name: A reference, a name, or an alias.
            space: Of the encoder's versions those of this embedding space come first, whatever name was given.

        Returns:
            The encoder.

        Raises:
            EncoderNotFound: There is none of that name.
            NotReady: It is still loading.
            EncoderRefused: Its bundle was refused.
        """
        running = (self._lookup(name, space=space) if space else None) or self._lookup(name)
        if running is not None:
            return running
        state = self.state(name)
        if state.phase is EncoderPhase.LOADING:
            raise NotReady(f"encoder '{name}' is still loading; try again in a moment", encoder=name)
        if state.phase is EncoderPhase.REFUSED:
            raise EncoderRefused(f"encoder '{name}' was refused: {state.detail}", encoder=name)
        raise EncoderNotFound(f"encoder '{name}' is being unloaded", encoder=name)

    def resolve(self, name: str, modality: Modality | None = None, *, space: str = "") -> EncoderInfo:
        """Finds the encoder a request means.

        Args:
            name: A reference, a name, an alias, or empty where only one fits.
            modality: What the request holds; None where any does.
            space: As for `find`.

        Returns:
            The encoder.

        Raises:
            EncoderNotFound: There is none of that name.
            NotReady: It is still loading.
            EncoderRefused: Its bundle was refused.
            ModalityNotServed: It reads something else, or none is loaded that reads this.
            InvalidInput: No name was given and several fit.
        """
        if name:
            info = self.find(name, space=space).encoder.info
            if modality is not None and info.modality is not modality:
                raise ModalityNotServed(
                    f"encoder '{name}' reads {info.modality}, not {modality}",
                    encoder=name,
                    modality=modality,
                )
            return info
        fitting = sorted({info.name for info in self.infos() if modality is None or info.modality is modality})
        if not fitting:
            if self.is_loading:
                raise NotReady("the encoders are still loading; try again in a moment")
            kind = modality or "any input"
            raise ModalityNotServed(f"no loaded encoder reads {kind}", modality=kind)
        if len(fitting) > 1:
            names = ", ".join(fitting)
            raise InvalidInput(f"several encoders fit ({names}); name one", encoders=names)
        return self.find(fitting[0]).encoder.info

    def put(self, encoder: Encoder, batcher: Batcher, folder: str) -> Batcher | None:
        """Lets an encoder answer.

        Args:
            encoder: The encoder.
            batcher: Runs it.
            folder: Name of its bundle's folder.

        Returns:
            The batcher of the one of its reference that answered until now, which has to finish what it accepted.
        """
        reference = encoder.info.reference
        before = self._running.get(reference)
        self._running[reference] = RunningEncoder(encoder, batcher, folder)
        self.set_state(reference, EncoderState(EncoderPhase.SERVING))
        return None if before is None else before.batcher

    def take(self, reference: str) -> Batcher | None:
        """Lets an encoder answer no longer.

        Args:
            reference: The encoder's.

        Returns:
            Its batcher, which has to finish what it accepted; None where it did not answer.
        """
        running = self._running.pop(reference, None)
        if running is None:
            return None
        self.set_state(reference, EncoderState(EncoderPhase.DRAINING))
        return running.batcher

    def set_state(self, key: str, state: EncoderState) -> None:
        """Takes note of where an encoder stands, by its reference, or a bundle, by its folder's name.

        Args:
            key: Reference or folder.
            state: The state.
        """
        self._states[key] = state
        self._tell()

    def forget(self, key: str) -> None:
        """Drops the state of what is no more.

        Args:
            key: A reference or a folder.
        """
        self._states.pop(key, None)
        self._tell()

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Calls `listener` on the event loop whenever a state or an alias changes."""
        self._listeners.append(listener)

    def _lookup(self, name: str, *, space: str = "") -> RunningEncoder | None:
        target = self._aliases.get(name, name)
        if space:
            bare = self._running[target].encoder.info.name if target in self._running else target.partition("@")[0]
            return _newest(one for one in self._named(bare) if one.encoder.info.space == space)
        return self._running.get(target) or _newest(self._named(target))

    def _named(self, name: str) -> Iterable[RunningEncoder]:
        return (running for running in self._running.values() if running.encoder.info.name == name)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _newest(candidates: Iterable[RunningEncoder]) -> RunningEncoder | None:
    return max(candidates, key=lambda running: version_key(running.encoder.info.version), default=None)
