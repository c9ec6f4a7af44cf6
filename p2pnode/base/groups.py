"""One fault out of the groups that trio's nurseries wrap it in.

A nursery raises its children's errors as an ExceptionGroup, perhaps several deep. A user gets one
sentence and one exit code: the first fault of ours, unless a bug is among them, which must be seen.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from p2pnode.base.errors import NodeError


def fault_of(group: BaseExceptionGroup[BaseException]) -> NodeError | None:
    """Return the first NodeError of a group, or None if anything else is in it too."""
    faults, bugs = group.split(NodeError)
    if faults is None or bugs is not None:
        return None
    first: BaseException = faults
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, NodeError) else None


@contextmanager
def one_fault() -> Iterator[None]:
    """Raise a group of NodeErrors alone as its first; another group passes as it is."""
    try:
        yield
    except BaseExceptionGroup as group:
        fault = fault_of(group)
        if fault is None:
            raise
        raise fault from None
