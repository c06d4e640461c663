"""Progress of one registration among many, told as a part of the whole."""

from __future__ import annotations

from ..progress import Progress, ProgressRecord


def part_of(whole: Progress, what: str, begin: float, share: float, *, warned: bool = True) -> Progress:
    """The progress of a part that begins where so much of the whole is done (0..1) and makes up a share of it.

    what: said before each message. warned: whether its warnings are passed on. A cancel and a stop of the
    whole go through to it.
    """

    def told(record: ProgressRecord) -> None:
        whole.check()
        if whole.stopping:
            inner.stop_here()
        if record.warning and not warned:
            return
        fraction = min(begin + share * record.fraction, 1.0)
        message = f"{what}: {record.message or record.stage}"
        whole.report(ProgressRecord("frames", fraction, None, message, record.step, record.warning))

    inner = Progress(on_record=told)
    return inner
