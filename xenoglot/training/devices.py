"""On what a run computes: devices, number formats, and several processes that share one step.

A thin layer over Lightning Fabric. Processes come from `torchrun`, from a cluster's own launcher, or are started here:
then the program starts itself once more for each further device. What the first process alone does (writing files)
goes through `Devices.on_main`, so that its failure ends all of them with one message.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TypeVar, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.model_parallel import ModelParallelStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from xenoglot.config import FabricConfig
from xenoglot.errors import LostProcessError, OptionError, OtherProcessError
from xenoglot.kernels import available_threads
from xenoglot.throughput import peak_flops

__all__ = ["Devices"]

T = TypeVar("T")

LOST_CONNECTION = re.compile(r"[Cc]onnection (?:was )?(?:closed|reset|refused)|remote process exited|[Bb]roken pipe")
"""What the libraries that exchange tensors say when the other side is gone."""
LONGEST_PREPARATION = dt.timedelta(days=2)
"""How long the others wait while the main process reads and encodes a text; by themselves they give up after half an
hour."""


class Devices:
    """Fabric, launched: this process is one of ``count``, and has its device.

    Args:
        config: What was asked for.
        deterministic: Whether CUDA is kept to algorithms that repeat their results.

    Raises:
        OptionError: If there are no such devices.
    """

    def __init__(self, config: FabricConfig, *, deterministic: bool = False) -> None:
        n_devices, n_nodes = _processes(config)
        accelerator = _accelerator(config.accelerator)
        if accelerator == "cuda" and n_devices > torch.cuda.device_count():
            raise OptionError("training.fabric.num_devices", n_devices, f"at most {torch.cuda.device_count()}, as here")
        self.precision = _precision(config.precision, accelerator)
        self.is_sharded = config.strategy == "fsdp"
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what makes cuBLAS repeat itself
            torch.use_deterministic_algorithms(True)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # its news are not about the run
        self.fabric = Fabric(
            accelerator=accelerator,
            devices=n_devices,
            num_nodes=n_nodes,
            precision=self.precision,  # type: ignore[arg-type]
            strategy=_strategy(config.strategy, n_devices * n_nodes),
        )
        self.fabric.launch()
        # OMP_NUM_THREADS may ask for fewer
        torch.set_num_threads(max(1, min(torch.get_num_threads(), available_threads() // n_devices)))

    def __str__(self) -> str:
        several = f"{self.count} x " if self.count > 1 else ""
        return f"{several}{self.device.type}, {self.precision}"

    @property
    def count(self) -> int:
        """Processes of the run, R."""
        return self.fabric.world_size

    @property
    def index(self) -> int:
        """This one's number, r."""
        return self.fabric.global_rank

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files."""
        return self.fabric.is_global_zero

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.fabric.device

    @property
    def peak_flops_per_second(self) -> float | None:
        """What all devices together are made for; None if it is not known."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        peak = peak_flops(name, self.precision)
        return None if peak is None else peak * self.count

    def setup(self, model: nn.Module, *, compiled: bool) -> nn.Module:
        """Bring a model to its device, and return what training calls: synchronised, in its precision, compiled.

        The model itself stays usable beside it, with the same parameters: uncompiled, for evaluations.
        """
        called = torch.compile(model, dynamic=False) if compiled else model
        return cast(nn.Module, self.fabric.setup_module(cast(nn.Module, called)))

    def accumulating(self, model: nn.Module, *, more: bool) -> AbstractContextManager[None]:
        """Keep gradients here while ``more`` of the same step are to come."""
        if self.count == 1:
            return contextlib.nullcontext()
        return cast("AbstractContextManager[None]", self.fabric.no_backward_sync(model, enabled=more))  # type: ignore[arg-type]

    def mean(self, values: Tensor) -> Tensor:
        """Average a tensor over the processes."""
        if self.count == 1:
            return values
        return cast(Tensor, self.fabric.all_reduce(values, reduce_op="mean"))

    def any(self, flag: bool) -> bool:
        """Say whether a flag is set on any process."""
        return self.mean(torch.tensor(float(flag), device=self.device)).item() > 0

    def on_main(self, function: Callable[[], T]) -> T | None:
        """Call a function on the main process only; the others wait, get nothing, and fail if it fails.

        Raises:
            OtherProcessError: On the other processes, if it failed on the main one.
        """
        if self.count == 1:
            return function()
        result, error = None, None
        if self.is_main:
            try:
                result = function()
            except BaseException as raised:
                error = raised
        has_failed = self.any(error is not None)
        if error is not None:
            raise error
        if has_failed:
            raise OtherProcessError("the main process stopped")
        return result

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[None]:
        """Compute as in training, without gradients."""
        with torch.no_grad(), self.fabric.autocast():
            yield

    @contextlib.contextmanager
    def expecting_others(self) -> Iterator[None]:
        """Say in one line when another process of the run is gone, which the exchange with it tells in many.

        Raises:
            LostProcessError: If one is gone.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not LOST_CONNECTION.search(str(error)):
                raise
            raise LostProcessError(
                f"another process of the run is gone, so this one ({self.index}) stops. What was saved is whole: start "
                "the run again to go on from its newest checkpoint."
            ) from error

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients that no wrapper did, in one exchange.

        Raises:
            OptionError: If the model is cut up over the processes.
        """
        if self.is_sharded:
            raise OptionError(
                "training.fabric.strategy",
                "fsdp",
                "ddp, for what works on the parameters themselves, as meta-learning does",
            )
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count > 1 and gradients:
            averages = self.mean(torch.cat([gradient.flatten() for gradient in gradients]))
            for gradient, average in zip(
                gradients, torch.split(averages, [each.numel() for each in gradients]), strict=True
            ):
                gradient.copy_(average.view_as(gradient))

    def clip_gradients(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Scale all gradients down to a norm, and return their norm before."""
        norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    def whole_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return every weight whole, on every process."""
        weights = model.state_dict()
        return {
            name: weight.full_tensor() if isinstance(weight, DTensor) else weight for name, weight in weights.items()
        }

    def load_weights(self, model: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Copy whole weights into a model, which takes its part of each where it is cut up."""
        for name, own in model.state_dict().items():
            given = weights[name].to(own.device)
            own.copy_(distribute_tensor(given, own.device_mesh, own.placements) if isinstance(own, DTensor) else given)


def _processes(config: FabricConfig) -> tuple[int, int]:
    """Return devices of a machine and machines; under torchrun it has decided both."""
    if torch.distributed.is_torchelastic_launched():
        n_local = int(os.environ["LOCAL_WORLD_SIZE"])
        return n_local, int(os.environ["WORLD_SIZE"]) // n_local
    return config.num_devices, config.num_nodes


def _accelerator(asked: str) -> str:
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if asked == "auto":
        return "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    kind = "cuda" if asked == "gpu" else asked
    if not available[kind]:
        allowed = ", ".join(["auto", *(name for name, is_there in available.items() if is_there)])
        raise OptionError("training.fabric.accelerator", asked, f"{allowed}, on this machine")
    return kind


def _precision(asked: str, accelerator: str) -> str:
    if asked != "auto":
        return asked
    return "bf16-mixed" if accelerator == "cuda" and torch.cuda.is_bf16_supported(False) else "32-true"


def _strategy(asked: str, n_processes: int) -> Strategy | str:
    if asked == "fsdp":
        return ModelParallelStrategy(
            _shard, data_parallel_size=n_processes, tensor_parallel_size=1, timeout=LONGEST_PREPARATION
        )
    if n_processes == 1:
        return "auto"
    # The decoder's buffers are tables that never change, so they need not be sent round before every step.
    return DDPStrategy(timeout=LONGEST_PREPARATION, forward_sync_buffers=False, gradient_as_bucket_view=True)


def _shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Cut a decoder up over the processes, layer by layer."""
    for layer in model.get_submodule("model.layers").children():
        fully_shard(layer, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model
