"""The kernel (Bitcoin Core's validation, in process) and the index that follows it.

Every block goes through `process_block`; afterwards the kernel's tip is compared with the
index's, and both counts are kept so that anyone can ask whether one was left out. The
kernel announces through callbacks, where an exception would be lost: they only take notes,
and the index moves after `process_block` has returned. Chain time is made, not measured:
the first block is 90 days old and each further one a step later, so locks and deadlines
can be reached by mining; the kernel allows no block over 2 hours ahead of the clock.
"""

import contextlib
from pathlib import Path
from typing import Any, Final

from p2pnode.app.sandbox.index import Index
from p2pnode.app.sandbox.journal import Journal, KernelStore
from p2pnode.app.sandbox.policy import Rejected
from p2pnode.base.errors import LocalFault, StorageFault
from p2pnode.base.kernel import quiet
from p2pnode.base.ports import Clock
from p2pnode.base.transaction import Header

START_AGE: Final = 90 * 86_400  # seconds before now
STEP: Final = 600  # seconds between blocks unless told otherwise
MAX_AHEAD: Final = 2 * 3_600  # of the machine's clock (consensus)


class Chain:
    """The active chain: submit blocks, read the index, close it when done."""

    def __init__(self, directory: Path | None, clock: Clock) -> None:
        self.index = Index()
        self.submitted = 0  # blocks handed to process_block
        self.compared = 0  # tips compared after one
        self._clock = clock
        self._notes: list[bytes | None] = []  # a block connected; None: the tip disconnected
        self._verdict, self._failed = "", False
        self._manager: Any = None
        self._context: Any = None
        with contextlib.ExitStack() as opened:
            self._journal = Journal(directory) if directory else None
            if self._journal:
                opened.callback(self._journal.close)
            self._store = KernelStore(directory)
            opened.callback(self._store.close)
            opened.callback(self._let_go)
            self._open()
            for raw in self._journal.read() if self._journal else ():
                self._replay(raw)
            self._opened = opened.pop_all()

    def _open(self) -> None:
        self._pbk = pbk = quiet()
        options = pbk.ContextOptions()
        options.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        options.set_validation_interface(
            pbk.validation.ValidationInterfaceCallbacks(
                block_connected=lambda _, block, entry: self._notes.append(bytes(block)),
                block_disconnected=lambda _, block, entry: self._notes.append(None),
                block_checked=self._checked,
            )
        )
        self._context = pbk.Context(options)
        where = str(self._store.path)
        store = pbk.ChainstateManagerOptions(self._context, where, where + "/blocks")
        store.set_worker_threads_num(0)
        store.update_block_tree_db_in_memory(True)
        store.update_chainstate_db_in_memory(True)
        try:
            self._manager = pbk.ChainstateManager(store)
        except RuntimeError:  # it says no more; it wants 50 MB free
            raise StorageFault(f"{where}: the kernel cannot store blocks; free space") from None
        self._follow()  # a new store announces its genesis block

    def _checked(self, _: Any, block: Any, state: Any) -> None:
        if state.validation_mode == self._pbk.ValidationMode.INVALID:
            self._verdict = str(state.block_validation_result.name)
        self._failed |= state.validation_mode == self._pbk.ValidationMode.INTERNAL_ERROR

    def _replay(self, raw: bytes) -> None:
        try:
            self.submit(raw)
        except Rejected as error:
            raise StorageFault(f"blocks.journal does not replay: {error}") from None

    def close(self) -> None:
        """Let go of the kernel and the lock; a chain without a directory is gone."""
        self._opened.close()

    def _let_go(self) -> None:
        # callbacks hold us and we hold the kernel: only this breaks the circle
        self._manager = self._context = None

    # -- blocks

    def extend(self, raw: bytes) -> bytes:
        """Submit a block that must become the tip, and journal it. Returns its hash."""
        made = Header(raw[:80]).hash
        self.submit(raw)
        if self.tip != made:
            raise Rejected("block refused: it did not become the tip")
        self.record([raw])
        return made

    def submit(self, raw: bytes) -> None:
        """Hand a block to the kernel and follow it.

        Raises Rejected with the kernel's verdict, StorageFault when it cannot keep the block.
        `process_block` does not raise for every invalid block: the callback tells the rest.
        """
        pbk = self._pbk
        self._verdict, self._failed = "", False
        try:
            block = pbk.Block(raw)
        except RuntimeError:
            raise Rejected("block refused: it cannot be read") from None
        self.submitted += 1
        try:
            self._manager.process_block(block)
        except pbk.ProcessBlockException:
            self._verdict = self._verdict or "it breaks a rule of its header"
        self._follow()
        self.compared += 1
        if self._failed:
            raise StorageFault(f"{self._store.path}: the kernel cannot store blocks; free space")
        if self._verdict:
            raise Rejected(f"block refused: {self._verdict}")

    def _follow(self) -> None:
        """Move the index where the kernel went, then compare the two tips."""
        notes, self._notes = self._notes, []
        for raw in notes:
            if raw is None:
                self.index.disconnect()
            else:
                self.index.connect(raw)
        active = self._manager.get_active_chain()
        theirs = bytes(active.block_tree_entries[active.height].block_hash)
        if (active.height, theirs) != (self.index.height, self.tip):
            raise AssertionError("the index lost the kernel's chain")

    def record(self, blocks: list[bytes]) -> None:
        """Journal blocks that the kernel has taken. Raises StorageFault."""
        if self._journal:
            for raw in blocks:
                self._journal.append(raw)

    def check_storage(self) -> None:
        """Raise StorageFault if an earlier failure left the journal behind the chain."""
        if self._journal:
            self._journal.check()

    def sync(self) -> None:
        """Bring the journal to the disk itself. Raises StorageFault."""
        if self._journal:
            self._journal.sync()

    def raw_block(self, height: int) -> bytes:
        """Return a block of the active chain as the kernel stored it."""
        entries = self._manager.get_active_chain().block_tree_entries
        return bytes(self._manager.blocks[entries[height]])

    # -- tip and time

    @property
    def tip(self) -> bytes:
        """Hash of the tip, internal order."""
        return self.index.headers[-1].hash

    @property
    def height(self) -> int:
        """Height of the tip."""
        return self.index.height

    @property
    def time(self) -> int:
        """Time of the tip, unix seconds."""
        return self.index.headers[-1].time

    def times(self, count: int, step: int) -> list[int]:
        """Return the times of the next blocks. Raises LocalFault beyond the future limit."""
        if step < 1:
            raise LocalFault("step: block times must rise; give at least 1 second", field="step")
        start = self.time if self.height else self._clock.now() - START_AGE - step
        times = [start + step * (n + 1) for n in range(count)]
        room = self._clock.now() + MAX_AHEAD - start
        if times and times[-1] - start > room:
            raise LocalFault(
                f"step: {count} blocks of {step} s would carry the chain over 2 h past this "
                f"machine's clock, where consensus ends; {max(0, room)} s are left",
                field="step",
            )
        return times
