"""Asks the system to read weights from the disk before their turn, where it can be asked."""

import os
from collections.abc import Iterable

from slimcheck.values.modules import Module

_GAP = 1 << 20  # bytes between weights that are read along
_PROBED = 4 << 20  # bytes from one that is asked for to the next


class ReadAhead:
    """Keeps open the file that was asked for last."""

    def __init__(self) -> None:
        self._path = ""
        self._handle = -1
        self._byte = bytearray(1)

    def want(self, modules: Iterable[Module]) -> None:
        """Ask for the weights of modules in the order of the files, for near ones at once."""
        if not hasattr(os, "posix_fadvise"):
            return
        run = ("", 0, 0)
        for module in modules:
            path, begin, end = module.places[module.kind.lead]
            if begin < 0:  # nothing that could be read
                continue
            if path == run[0] and 0 <= begin - run[2] <= _GAP:
                run = (path, run[1], end)
                continue
            self._advise(*run)
            run = (path, begin, end)
        self._advise(*run)

    def _advise(self, path: str, begin: int, end: int) -> None:
        if end <= begin:
            return
        try:
            if path != self._path:
                self.close()
                self._handle = os.open(path, os.O_RDONLY)
                self._path = path
            if not self._is_there(begin, end):
                os.posix_fadvise(self._handle, begin, end - begin, os.POSIX_FADV_WILLNEED)
        except OSError:  # the rules will say what is wrong with the file
            pass

    def _is_there(self, begin: int, end: int) -> bool:
        """Whether the system has the bytes that are probed: to ask for all takes it longer.

        The first may be there by the page that ends the header, so the last is probed too.
        """
        if not hasattr(os, "RWF_NOWAIT"):
            return False
        try:
            for at in (*range(begin, end, _PROBED), end - 1):
                os.preadv(self._handle, [self._byte], at, os.RWF_NOWAIT)
        except OSError:  # it would have to wait, or cannot tell
            return False
        return True

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
        self._path, self._handle = "", -1
