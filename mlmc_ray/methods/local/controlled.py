"""The halves of Scaffnew, CompressedScaffnew and TAMUNA: local steps under a control."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softshrink

from mlmc_ray.compressors.base import Context, check_finite
from mlmc_ray.methods.base import Half, News, Oracle, Progress
from mlmc_ray.methods.local.entry_sharing import Entries, EntrySharing
from mlmc_ray.methods.local.local_sgd import local_change
from mlmc_ray.methods.reports import payload_of, payloads_of
from mlmc_ray.payloads import DensePayload, Message
from mlmc_ray.seeding import seed_for


class ControlledWorker(Half):
    """Takes local steps under a control, and sends some entries of where they lead.

    Remembers the "control" h_i; and, until it knows their averages, the entries that it "sent" and
    the "column" that says which these were. It learns the averages from an exchange of their own,
    or from the parameters of the next round.

    Args:
        sharing: who sends which entries.
        step_size: gamma.
        probability: p, of a communication after a local step.
        proximal: send x_i - (gamma / p) h_i instead of x_i; from then on all of the control is in
            what was sent, so the one remembered is zero. For workers that send every entry.
    """

    def __init__(
        self,
        sharing: EntrySharing,
        step_size: float,
        probability: float,
        *,
        proximal: bool = False,
    ) -> None:
        super().__init__()
        self._sharing = sharing
        self._step_size = step_size
        self._probability = probability
        self._proximal = proximal

    def step(self, news: Message, oracle: Oracle, *, context: Context) -> Message:
        """Take the local steps, or learn averages."""
        if "entries" in news.payloads:
            averages = torch.zeros_like(self.remembered("sent"))
            payload_of(news, "entries", len(averages)).add_to(averages)
            self._correct(self._sent_entries(context), averages, context)
            return Message({})
        dim = len(self.memory["control"]) if self.memory else None
        at = payload_of(news, "parameters", dim).to_dense()
        if not self.memory:
            self.memory = {"control": torch.zeros_like(at)}
        elif "sent" in self.memory:
            entries = self._sent_entries(context)
            self._correct(entries, at[entries], context)
        draws = np.random.Generator(np.random.Philox(seed_for(context.shared_seed, "local steps")))
        change = local_change(
            at,
            oracle,
            step_size=self._step_size,
            num_steps=int(draws.geometric(self._probability)),
            control=self.memory["control"],
        )
        check_finite(change)
        own = at.sub(change)
        if self._proximal:
            own.sub_(self.memory["control"], alpha=self._step_size / self._probability)
            self.memory["control"].zero_()
        return self._report(own, context)

    def _report(self, own: Tensor, context: Context) -> Message:
        """Send this round's entries of x_i, if there are any, and remember them."""
        columns = self._sharing.columns(context.shared_seed, context.num_workers)
        column = columns[context.worker_id]
        sent = own[self._sharing.entries(column, len(own), context.num_workers)]
        if not sent.numel():
            return Message({})
        self.memory["sent"], self.memory["column"] = sent, torch.tensor(column)
        return Message({"entries": DensePayload(sent)})

    def _sent_entries(self, context: Context) -> Entries:
        column, dim = int(self.memory["column"]), len(self.memory["control"])
        return self._sharing.entries(column, dim, context.num_workers)

    def _correct(self, entries: Entries, averages: Tensor, context: Context) -> None:
        """Move the control by (p chi / gamma) (x - x_i) on the entries that were sent."""
        damping = self._sharing.damping_among(context.num_workers)
        gain = self._probability * damping / self._step_size
        self.memory["control"][entries] += gain * (averages - self.memory.pop("sent"))
        del self.memory["column"]


class AveragingServer(Half):
    """Puts the average of what is sent of each entry in its place. Remembers nothing.

    Args:
        sharing: who sends which entries.
        parameters: the server's own, shape (d,).
        threshold: by how much averages are then moved towards 0, those below it to 0.
    """

    def __init__(self, sharing: EntrySharing, parameters: Tensor, threshold: float = 0.0) -> None:
        super().__init__()
        self._parameters = parameters
        self._sharing = sharing
        self._threshold = threshold

    def news(self, *, context: Context) -> News:
        """Give everyone the parameters."""
        return Message({"parameters": DensePayload(self._parameters)})

    def step(self, reports: Mapping[int, Message], *, context: Context) -> Progress:
        """Average entry by entry."""
        average = torch.zeros_like(self._parameters)
        senders, _ = self._sharing.counts(context.num_workers)
        for worker_id, entries in self.entries(context).items():
            part = average[entries]
            if part.numel():
                own = {worker_id: reports[worker_id]}
                payload = payloads_of(own, "entries", part.numel())[worker_id]
                payload.add_to(part, weight=1 / senders)
                average[entries] = part
        if self._threshold:
            average = softshrink(average, self._threshold)
        self._parameters.copy_(average)
        return Progress.MOVED

    def entries(self, context: Context) -> dict[int, Entries]:
        """Return the entries that each worker sends in this round."""
        columns = self._sharing.columns(context.shared_seed, context.num_workers)
        return {
            worker_id: self._sharing.entries(column, len(self._parameters), context.num_workers)
            for worker_id, column in columns.items()
        }
