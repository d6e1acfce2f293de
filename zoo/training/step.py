"""One optimizer step, whole or in parts, on one process or many."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.faults import fault
from zoo.progress import Progress, Silent
from zoo.recipes import Phase
from zoo.training.batches import Batch
from zoo.training.engine import Engine, Features, mix, out_of_memory
from zoo.training.forward import forward_of
from zoo.training.inference import Front
from zoo.training.losses import Criterion, summed_losses
from zoo.training.mixing import Mixture, draw_mixture, neighbours
from zoo.training.scoring import OneClass, Scoring


class Stepper:
    """Takes the steps of one phase.

    The gradient of a step is that of the mean loss over all its samples, whether they are taken at once, in parts that
    follow one another, or by several processes. After a step every process holds the same parameters and buffers: the
    statistics of BatchNorm layers that train are the mean of what each process saw.

    A step whose loss or gradient is not finite leaves parameters, buffers and the optimizer's state as they were.

    Args:
        module: What trains.
        optimizer: Of its parameters.
        engine: Device, numerics and processes.
        criterion: Losses of a batch.
        front: What happens to a batch before the module.
        phase: Clipping, mixing, and the size of the parts.
        seed: Decides dropout and mixing, together with the step.
        scoring: What counts as right.
        progress: Told when the parts have to become smaller.

    Attributes:
        micro_batch: Most samples in memory at once; None for all.
        stop: The signal that asked a process, and so all of them, to stop; 0 for none. Set by :meth:`__call__`.
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        engine: Engine,
        criterion: Criterion,
        front: Front,
        phase: Phase,
        seed: int,
        scoring: Scoring = OneClass(),
        progress: Progress = Silent(),
    ) -> None:
        self.micro_batch = phase.micro_batch
        self.stop = 0
        self._module = module
        self._forward = forward_of(module, phase)
        self._optimizer = optimizer
        self._parameters: list[nn.Parameter] = [p for group in optimizer.param_groups for p in group["params"]]
        self._engine = engine
        self._criterion = criterion
        self._front = front
        self._phase = phase
        self._seed = seed
        self._scoring = scoring
        self._progress = progress
        self._buffers = _TrainingBuffers(module)

    def __call__(self, batch: Batch, *, step: int, stop: int = 0) -> Tensor:
        """Take one step.

        Args:
            batch: This process's samples of the step.
            step: Counted from 0 over the whole run; random numbers depend on it.
            stop: The signal that asked this process to stop; see :attr:`stop`.

        Returns:
            float32 ``(4,)`` on the device: sum of losses, right answers and number of samples over all processes, and
            1 if all was finite, else 0; the others are 0 then.

        Raises:
            TrainingError: One sample is too many for the memory, or a process was lost.
        """
        batch = self._engine.to_device(batch)
        before = self._buffers.read()
        while True:
            sums = self._gradients(batch, step)
            ran_out, self.stop = self._engine.largest(int(sums is None), stop)
            if not ran_out:
                break
            self._buffers.write(before)
            self._optimizer.zero_grad()
            self._shrink(batch.count)
        assert sums is not None
        self._reduce(sums)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(norm + sums[3])
        if self._phase.clip is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self._phase.clip, norm)
        self._update(finite, before)
        return torch.where(finite, torch.cat([sums[:3], finite.reshape(1).float()]), 0.0)

    def _gradients(self, batch: Batch, step: int) -> Tensor | None:
        """Add up the gradients of this process's samples.

        Returns:
            Sums over them: loss, right answers, samples, and the loss that gives the gradients. None where the memory
            ran out.
        """
        sums = torch.zeros(4, device=self._engine.device)
        mixture = draw_mixture(self._phase, seed=self._seed, step=step)
        # One process divides by what it knows; several learn of the others' samples with the gradients.
        divisor = batch.count if self._engine.world_size == 1 else 1
        try:
            for number, part in enumerate(self._parts(batch)):
                fault("forward")
                # Dropout depends on where training stands alone, so a run can be entered at any step.
                self._engine.seed(mix(self._seed, step, number, self._engine.rank))
                objective, figures = self._loss(part, mixture)
                fault("backward")
                # Stages that run once more in the backward pass follow the batch's statistics once more.
                followed = self._buffers.read() if self._phase.recompute else None
                torch.autograd.backward(objective / divisor)
                if followed is not None:
                    self._buffers.write(followed)
                sums += torch.cat([figures, objective.detach().reshape(1)])
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            return None
        return sums

    def _loss(self, batch: Batch, mixture: Mixture | None) -> tuple[Tensor, Tensor]:
        """The loss that gives the gradients, auxiliary heads and all, and the figures of the step's row."""
        engine, count = self._engine, batch.count
        with torch.no_grad(), engine.autocast():
            features: Features = engine.lay_out(self._front(batch, True))
            if mixture is not None:
                features = engine.lay_out(mixture.features(features, count))
        share = 1.0 if mixture is None else mixture.loss_share(features)
        with engine.autocast():
            outputs = self._forward(features)
        logits, *auxiliary = [x[:count] for x in (outputs if isinstance(outputs, tuple) else (outputs,))]
        targets = batch.targets[:count]
        other = targets if mixture is None else targets[neighbours(count, targets.device)]

        def loss_of(x: Tensor) -> Tensor:
            loss = summed_losses(self._criterion, x, targets)
            return loss if mixture is None else share * loss + (1 - share) * summed_losses(self._criterion, x, other)

        loss = objective = loss_of(logits)
        for weight, x in zip(getattr(self._module, "auxiliary_weights", ()), auxiliary, strict=True):
            objective = objective + weight * loss_of(x)
        if fault("loss"):
            objective = objective * float("nan")
        right = self._scoring.right(logits, targets if share >= 0.5 else other)
        samples = torch.full((), count, dtype=torch.float32, device=loss.device)
        return objective, torch.stack([loss.detach().float(), right.float(), samples])

    def _parts(self, batch: Batch) -> Iterator[Batch]:
        if self.micro_batch is None or self.micro_batch >= batch.count:
            yield batch
            return
        mixes = self._phase.mixup or self._phase.cutmix
        size = self.micro_batch // 2 * 2 if mixes else self.micro_batch  # pairs stay together
        for start in range(0, batch.count, size):
            yield batch.rows(start, min(start + size, batch.count))

    def _shrink(self, count: int) -> None:
        """Halve the parts of a step, on every process alike."""
        mixes = self._phase.mixup or self._phase.cutmix
        largest = self._engine.largest(count)
        present = min(self.micro_batch or largest, largest)
        # Pairs stay together.
        half = max(2, present // 4 * 2) if mixes else present // 2
        if half in (0, present):
            raise TrainingError(
                f"memory ran out with {present} image(s) at once: use smaller images (--image-size), a smaller model, "
                "or freeze more of it."
            )
        self.micro_batch = half
        self._progress.warn(
            f"memory ran out: from here on a step of {self._phase.batch_size} images is taken {half} images at a time. "
            "The result is that of the whole step"
            + (", but BatchNorm layers that train see fewer images at once." if self._buffers else ".")
        )

    def _reduce(self, sums: Tensor) -> None:
        """Bring gradients, buffers and sums of all processes together; gradients become those of the mean loss."""
        engine = self._engine
        if engine.world_size == 1:
            return
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in self._parameters if parameter.grad is not None]
        buffers = [b for b in self._buffers.present() if b.is_floating_point()]
        tensors = [*gradients, *buffers, sums]
        flat = engine.all_sum(torch.cat([tensor.detach().float().reshape(-1) for tensor in tensors]))
        pieces = [
            piece.view(t.shape)
            for piece, t in zip(torch.split(flat, [t.numel() for t in tensors]), tensors, strict=True)
        ]
        with torch.no_grad():
            torch._foreach_copy_(tensors, pieces)
            torch._foreach_div_(gradients, sums[2].clone())
            if buffers:
                torch._foreach_div_(buffers, float(engine.world_size))

    def _update(self, finite: Tensor, before: Sequence[Tensor]) -> None:
        if self._engine.device.type != "cuda":
            if finite:
                self._optimizer.step()
            else:
                self._buffers.write(before)
        else:
            # Without waiting for the GPU: the fused optimizers leave everything alone where found_inf is 1.
            self._optimizer.found_inf = (~finite).float()  # type: ignore[attr-defined]
            self._optimizer.step()
            after = self._buffers.read()
            self._buffers.write([torch.where(finite, a, b) for a, b in zip(after, before, strict=True)])
        self._optimizer.zero_grad()


class _TrainingBuffers:
    """The buffers that training mode changes, read and written in one piece for each type."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __bool__(self) -> bool:
        return bool(self.present())

    def present(self) -> list[Tensor]:
        """They themselves, looked up each time, since a module may replace its own."""
        modules = (m for m in self._module.modules() if m.training)
        buffers = (buffer for m in modules for buffer in m._buffers.values() if buffer is not None)
        return sorted(buffers, key=lambda buffer: str(buffer.dtype))

    def read(self) -> list[Tensor]:
        """Their values: one flat tensor a type."""
        return [torch.cat([buffer.reshape(-1) for buffer in group]) for group in self._groups()]

    @torch.no_grad()
    def write(self, values: Sequence[Tensor]) -> None:
        """Put values that :meth:`read` gave back."""
        for group, flat in zip(self._groups(), values, strict=True):
            pieces = torch.split(flat, [buffer.numel() for buffer in group])
            torch._foreach_copy_(group, [p.view(b.shape) for p, b in zip(pieces, group, strict=True)])

    def _groups(self) -> list[list[Tensor]]:
        groups: dict[torch.dtype, list[Tensor]] = {}
        for buffer in self.present():
            groups.setdefault(buffer.dtype, []).append(buffer)
        return list(groups.values())
