"""A guide's record in main memory: sent there behind the guide pass, fetched a block ahead of the window pass.

At 1920x1088 the record of a 1.3B model is 8.4 GiB for each branch. Copies run on a stream of their own, from and to
pinned memory, while the GPU computes: at 20 GB/s and more over the bus, a block's 0.3 GiB are there in time.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import torch


@dataclass
class _Kept:
    host: dict[str, torch.Tensor] = field(default_factory=dict)
    coming: bool = False
    arrival: torch.cuda.Event | None = None


class HostStore:
    """Keeps the tensors of records (dataclasses whose fields are tensors or None) in main memory.

    A record that was sent holds None until it is fetched, and again once it was dropped. On the CPU the copies are
    plain ones.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._kept: dict[int, _Kept] = {}  # by identity of the record, which lives as long as the store

    @torch.compiler.disable
    def send(self, record: Any) -> None:
        """Begin to copy the record's tensors to main memory."""
        kept = self._kept.setdefault(id(record), _Kept())
        self._follow_computation()
        for name in (part.name for part in fields(record)):
            tensor = getattr(record, name)
            if tensor is None:
                continue
            if name not in kept.host:
                kept.host[name] = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._stream is not None)
            with torch.cuda.stream(self._stream):
                kept.host[name].copy_(tensor, non_blocking=True)
            if self._stream is not None:
                tensor.record_stream(self._stream)
            setattr(record, name, None)

    @torch.compiler.disable
    def fetch(self, record: Any) -> None:
        """Begin to copy the record's tensors back to the device, unless they are coming already."""
        kept = self._kept.get(id(record))
        if kept is None or kept.coming:
            return
        kept.coming = True
        tensors = {name: torch.empty_like(host, device=self.device) for name, host in kept.host.items()}
        self._follow_computation()  # which may still use the memory that these were given
        with torch.cuda.stream(self._stream):
            for name, tensor in tensors.items():
                tensor.copy_(kept.host[name], non_blocking=True)
                setattr(record, name, tensor)
        if self._stream is not None:
            kept.arrival = self._stream.record_event()

    @torch.compiler.disable
    def wait(self, record: Any) -> None:
        """Make what is computed from now on wait for the record's tensors."""
        kept = self._kept.get(id(record))
        if kept is not None and kept.arrival is not None:
            torch.cuda.current_stream(self.device).wait_event(kept.arrival)

    @torch.compiler.disable
    def drop(self, record: Any) -> None:
        """Free the record's tensors on the device."""
        kept = self._kept.get(id(record))
        if kept is not None:
            kept.coming, kept.arrival = False, None
            for name in kept.host:
                setattr(record, name, None)

    def _follow_computation(self) -> None:
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self.device))
