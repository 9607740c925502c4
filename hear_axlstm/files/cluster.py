"""A connection to Ray: to a cluster, to what the caller has started, or to a Ray of this machine for one call."""

from __future__ import annotations

import copy
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import ray
import ray.data  # which sets its loggers up
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from hear_axlstm.config import require
from hear_axlstm.embedder import Embedder
from hear_axlstm.errors import ConfigError, HearAxlstmError
from hear_axlstm.files.ray_actors import Job
from hear_axlstm.parallel import processors
from hear_axlstm.version import __version__

LOCAL, DEVICES = "local", ("cpu", "cuda", "auto")
HOW_TO_REACH = (
    "expected auto or HOST:PORT, on a machine of the cluster or in a job (ray job submit), "
    "and the variable RAY_AUTH_MODE=token where the cluster asks for a token"
)
LOGGERS = ("ray", "ray.data")
ANSWER = 10.0  # seconds that a machine has to answer at its address
QUIET = {  # variables that Ray reads as it starts
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


class ClusterError(HearAxlstmError, OSError):
    """A cluster that gave the work up."""


@contextmanager
def _silence() -> Iterator[None]:
    """Keep what is written to the descriptor of stderr, by code that is not Python's, to itself."""
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing is written
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _knock(address: str) -> None:
    """Raise OSError where nothing answers at HOST:PORT, at which Ray would try for minutes, deaf to Ctrl-C."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()


class Cluster:
    """Ray, as it is or as it was started for this, and what it has for actors. Use it as a context manager.

    address: True or "local" for a Ray of this machine, unless the variable RAY_ADDRESS says where one is; "auto" for one
    that runs on this machine; HOST:PORT. Where the caller has connected to Ray, that is used, and stays connected.
    device: that actors encode on, "auto" for GPUs where there are any. model: what they encode with; here it has the
    precision that it has over there.

    actors: how many there are; processors and gpus: what each of them has. sent: the model, where they find it.

    Raises ConfigError where the cluster cannot be reached or has no such device.
    """

    def __init__(self, address: bool | str, device: str, model: Embedder) -> None:
        require(device in DEVICES, f"device is {device!r}; expected {', '.join(DEVICES)} for the actors of a cluster")
        self._is_ours = not ray.is_initialized()
        self._levels = {name: logging.getLogger(name).level for name in LOGGERS}
        self._wanted = device
        if not self._is_ours and address not in (True, "auto"):
            raise ConfigError(f"ray is {address!r}, and this process is connected to Ray already; pass ray=True to use that")
        for name in LOGGERS:  # Ray writes nothing between the lines of a bar
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            if self._is_ours:
                self._connect(address)
            self.count()
            self.model = self._prepared(model)
            self.sent = ray.put(self.model if model.device.type == "cpu" else copy.deepcopy(self.model).cpu())
        except BaseException:
            self.close()
            raise

    def _connect(self, address: bool | str) -> None:
        where = (os.environ.get("RAY_ADDRESS") or LOCAL) if address is True else str(address)
        if where.startswith("ray://"):
            raise ConfigError(f"{where} is an address of Ray Client, which Ray Data does not run behind; {HOW_TO_REACH}")
        options: dict[str, Any] = {}
        if where == LOCAL:
            options = {"num_cpus": processors(), "include_dashboard": False}
        on_sigterm = signal.getsignal(signal.SIGTERM)
        added = QUIET.keys() - os.environ.keys()
        os.environ.update({name: QUIET[name] for name in added})
        try:
            _knock(where)
            with _silence():
                ray.init(where, log_to_driver=False, logging_level=logging.CRITICAL, **options)
        except (OSError, ValueError, RuntimeError, OverflowError, AssertionError) as error:
            cause = " ".join(str(error).split())
            raise ConfigError(f"Ray at {where} cannot be reached ({cause:.300}); {HOW_TO_REACH}") from error
        finally:
            for name in added:
                os.environ.pop(name, None)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, on_sigterm)  # Ray has put its own in this one's place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the Ray that was started for this, or the connection that was made."""
        if self._is_ours:
            ray.shutdown()
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)

    def count(self) -> None:
        """Take the GPUs or processors that there are now. Raises ConfigError where there are none."""
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = [(int(one.get("GPU", 0)), one.get("CPU", 0)) for one in resources if one.get("GPU", 0) >= 1]
        self.type = self._wanted if self._wanted != "auto" else "cuda" if gpus else "cpu"
        if self.type == "cpu":
            self.actors, self.processors, self.gpus = sum(int(one.get("CPU", 0)) for one in resources), 1, 0
        else:
            self.actors, self.gpus = sum(count for count, _ in gpus), 1
            share = min((int(cpus // count) for count, cpus in gpus), default=1)
            self.processors = max(1, share - 1)  # an actor that wants all of them may wait for ever
        if not self.actors:
            what = "processors" if self.type == "cpu" else "GPUs"
            raise ConfigError(f"device is {self._wanted}, and Ray has no {what}: {self.free()}; add a node that has some")

    def nodes(self) -> set[str]:
        """The nodes that live."""
        return {node["NodeID"] for node in ray.nodes() if node["Alive"]}

    def free(self) -> str:
        """What the cluster has and what of it is free, in words."""
        there, free = ray.cluster_resources(), ray.available_resources()
        return ", ".join(f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s are free" for kind in ("CPU", "GPU"))

    def here(self) -> NodeAffinitySchedulingStrategy:
        """What keeps an actor on the node of this process, with which it ends."""
        return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)

    def _prepared(self, model: Embedder) -> Embedder:
        """The model with the precision of the cluster's devices, which the folder records."""
        if self.type == "cpu" or model.precision != "auto" or model.encoder.patch_embed.weight.dtype != torch.float32:
            return model
        prepared = copy.copy(model)
        prepared.precision = "float16"
        return prepared

    def job(self, *, decoders: int | None, **kind: Any) -> Job:
        """What actors are to do on this cluster."""
        decoders = self.processors if decoders is None else decoders
        return Job(__version__, self.type, self.processors, decoders, **kind)
