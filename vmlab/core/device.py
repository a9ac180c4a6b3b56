"""The base of every device.

    class Dice(Device):
        class regs(Registers):
            ROLL = ro(0x00, "a new roll each read")
            SIDES = rw(0x04, "number of sides", reset=6)

        @on_read("ROLL")
        def roll(self):
            return random.randrange(self.r.SIDES) + 1

A device is its table, its handlers and the few capabilities that it is given when it is plugged in:
an interrupt line, the machine's clock, guest memory. It never sees the machine, the bus or the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any, ClassVar, TypeVar

from vmlab.core.clock import Clock
from vmlab.core.counters import Block
from vmlab.core.dispatch import Accessors
from vmlab.core.handlers import check_class, check_handlers, check_names
from vmlab.core.irq import IrqLine
from vmlab.core.memory import GuestMemory
from vmlab.core.values import values_class
from vmlab.errors import RegisterTableError
from vmlab.regs import Registers

__all__ = ["Device", "command", "commands", "on_peek", "on_read", "on_write", "wants_line"]

Handler = TypeVar("Handler", bound=Callable[..., Any])


def _marks(kind: str, names: tuple[str, ...]) -> Callable[[Handler], Handler]:
    if not names or not all(isinstance(name, str) for name in names):
        raise RegisterTableError(f'on_{kind} needs the names of registers: @on_{kind}("ROLL")')

    def mark(function: Handler) -> Handler:
        function.__dict__.setdefault("_vmlab_handles", []).extend((kind, name) for name in names)
        return function

    return mark


def on_read(*names: str) -> Callable[[Handler], Handler]:
    """`handler(self) -> int` is called when the guest reads the register, side effects allowed. What
    it returns is kept as the register's value, for `peek`."""
    return _marks("read", names)


def on_write(*names: str) -> Callable[[Handler], Handler]:
    """`handler(self, value)` is called after the guest wrote the register. `value` is the register's
    new value; of a write-only or write-1-to-clear register, what was written."""
    return _marks("write", names)


def on_peek(*names: str) -> Callable[[Handler], Handler]:
    """`handler(self) -> int` computes the register's value without any side effect. It serves `peek`
    and, where there is no `on_read`, the guest too."""
    return _marks("peek", names)


def command(function: Handler) -> Handler:
    """A method that whoever holds the machine may call on the device in it, from any thread:

        @command
        def press(self, button: int = 0) -> None: ...

        vm.devices["pad0"].press(1)         # or vm.tell("pad0", "press", 1)

    Of a register device it runs as a handler does: no access of the guest's meanwhile, and the
    interrupt line follows. Arguments and result are plain values: numbers, text, bytes, lists, dicts.
    """
    function.__dict__["_vmlab_command"] = True
    return function


#: flags of code objects: *args, **kwargs
_VARIADIC = 0x04 | 0x08


def commands(device: object) -> dict[str, tuple[str, str]]:
    """name -> (signature, docstring) of the methods that `command` marks, by name."""
    found = {}
    for name in dir(type(device)):
        makers = [vars(cls).get(name) for cls in type(device).__mro__]
        if any(getattr(one, "_vmlab_command", False) for one in makers):
            found[name] = _about(getattr(device, name))
    return found


def _about(method: Callable[..., Any]) -> tuple[str, str]:
    """Its signature as it is written, also where annotations are kept as text (their names may not be
    there), and its docstring."""
    if (plain := _plainly(method)) is not None:
        return plain
    import inspect  # only here: it is large, and every `start` would wait for it

    def shown(annotation: Any) -> Any:
        return _Written(annotation) if isinstance(annotation, str) else annotation

    signature = inspect.signature(method)
    parts = [one.replace(annotation=shown(one.annotation)) for one in signature.parameters.values()]
    result = shown(signature.return_annotation)
    text = str(signature.replace(parameters=parts, return_annotation=result))
    return text, inspect.getdoc(method) or ""


def _plainly(method: Callable[..., Any]) -> tuple[str, str] | None:
    """The same of a method that is written as most are, which takes no `inspect`; None of others."""
    function, doc = getattr(method, "__func__", None), method.__doc__
    if type(function) is not FunctionType or set(vars(function)) != {"_vmlab_command"} or not doc:
        return None
    code, notes = function.__code__, function.__annotations__
    names = code.co_varnames[1 : code.co_argcount]
    defaults = function.__defaults__ or ()
    odd = code.co_flags & _VARIADIC or code.co_posonlyargcount or code.co_kwonlyargcount
    if odd or len(defaults) > len(names) or not all(type(note) is str for note in notes.values()):
        return None
    parts = [f"{name}: {notes[name]}" if name in notes else name for name in names]
    for at, value in enumerate(defaults, len(names) - len(defaults)):
        parts[at] += f" = {value!r}" if names[at] in notes else f"={value!r}"
    result = f" -> {notes['return']}" if "return" in notes else ""
    first, _, rest = doc.expandtabs().partition("\n")
    return f"({', '.join(parts)}){result}", f"{first}\n{dedent(rest)}".strip()


class _Written(str):
    """Text that is shown without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _is_table(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Registers)


class Device:
    """See the module's docstring. Subclasses may define

    reset(self): back to the power-on state; call super().
    irq_level(self) -> bool: the one place that says whether the line is up; asked after each access
        and by `update()`.
    attached(self) / detached(self): the capabilities have come / are about to go.
    """

    class regs(Registers):
        """No registers."""

    #: what the device is called in tables; the class name in lower case unless said otherwise
    type: ClassVar[str] = "device"
    #: bytes of address space that it takes
    size: ClassVar[int] = 0x1000
    #: what an offset without a register reads as, before it is cut to the access's size
    reserved: ClassVar[int] = 0
    #: whether it asks for an interrupt line; None: if it has an `irq_level`, or code that names `irq`
    wants_irq: ClassVar[bool | None] = None
    #: streams of bytes that whoever holds the machine can read (`output`); typing into them calls a
    #: command `send(data, port)`
    consoles: int = 0

    _handlers: ClassVar[dict[tuple[str, str], str]] = {}
    _values: ClassVar[Callable[[], Any]] = values_class(Registers)

    r: Any
    irq: IrqLine
    clock: Clock
    memory: GuestMemory | None
    lock: threading.RLock
    #: what the constructor was given, for `vm.replace` by a newer class
    _made: tuple[tuple[Any, ...], dict[str, Any]]

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "type" not in vars(cls):
            cls.type = cls.__name__.lower()
        check_names(cls, _TAKEN)
        if not _is_table(cls.regs):
            raise RegisterTableError(
                f"{cls.__qualname__}.regs is no table; write: class regs(Registers)"
            )
        cls._handlers = dict(cls._handlers)
        for name, value in vars(cls).items():
            for handled in getattr(value, "_vmlab_handles", ()):
                cls._handlers[handled] = name
        cls._values = values_class(cls.regs)
        check_class(cls)
        check_handlers(cls)

    def __new__(cls, *args: Any, **options: Any) -> Device:
        # here and not in __init__, so that a device's own __init__ need not call super()
        if (args or options) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments: the class has no __init__")
        self: Device = super().__new__(cls)
        self._made = args, options
        self.lock = threading.RLock()
        self.irq = IrqLine()
        self.clock = Clock()
        self.memory = None
        self.r = cls._values()
        self._rewire()
        return self

    def _rewire(self) -> None:
        """Count in a block of its own again: the machine takes its block back."""
        self._wire(Block.private([row.name for row in self.regs.table]))

    def _wire(self, block: Block) -> None:
        """Count in `block` from now on."""
        self.counters = block
        self._accessors = accessors = Accessors(self, block)
        self.read = accessors.read
        self.write = accessors.write

    # what a bus calls; the accessors stand in for them from __new__ on
    read: Callable[[int, int], int]
    write: Callable[[int, int, int], None]

    def reset(self) -> None:
        """Every register at its reset value, the line down."""
        with self.lock:
            self.r.__init__()
            self.irq.set(False)

    def attached(self) -> None:
        """The device has its line, clock and memory."""

    def detached(self) -> None:
        """The device is being unplugged."""

    def doorbells(self) -> list[tuple[int, int, int | None, Callable[[int], None]]]:
        """(offset, size, value or None for any, ring) of writes that need not trap: `ring(n)` is
        called instead, on a thread of the engine's, after n of them."""
        return []

    def inspect(self) -> dict[str, Any]:
        """What `peek` shows beside the registers: the device's public attributes."""
        return {
            name: value
            for name, value in vars(self).items()
            if not name.startswith("_") and name not in _WIRING
        }

    def update(self) -> None:
        """Drive the line as `irq_level` says; for changes that no access caused."""
        level = getattr(self, "irq_level", None)
        if level is not None:
            with self.lock:
                self.irq.signal(bool(level()))

    def output(self, data: bytes, port: int = 0) -> None:
        """Bytes for whoever holds the machine: `vm.consoles[id]` collects them. See `consoles`."""
        if self.on_output is not None:
            self.on_output(data, port)

    def mistake(self, text: str) -> None:
        """The guest did what the data sheet forbids: counted, and told to whoever listens."""
        self.counters.mistake()
        if self.on_mistake is not None:
            self.on_mistake(self, text)

    #: set by the machine
    on_mistake: Callable[[Device, str], None] | None = None
    on_output: Callable[[bytes, int], None] | None = None

    def peek(self, name: str | None = None) -> Any:
        """The value of the register `name`, or all of them by name. Never has a side effect.

        Write-only registers and blocks have no value and are left out."""
        if name is not None:
            return self._accessors.peek(name)
        return {
            row.name: self._accessors.peek(row.name)
            for row in self.regs.table
            if row.readable and row.access != "block"
        }

    def register_at(self, offset: int, size: int, write: bool) -> str:
        """The name of the register that an access reaches, for the tracer; "" where there is none."""
        return self._accessors.name_at(offset, size, write)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.type}>"

    def __getstate__(self) -> dict[str, Any]:
        """Its own attributes and register values: how a device travels to the monitor process."""
        own = {name: value for name, value in vars(self).items() if name not in _WIRING}
        return own | {"r": {row.name: getattr(self.r, row.name) for row in self.regs.table}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        values = state.pop("r")
        vars(self).update(state)
        for name, value in values.items():
            setattr(self.r, name, value)


def wants_line(device: Device) -> bool:
    """Whether the device is to have an interrupt line: a scarce thing, for those that use one."""
    if device.wants_irq is not None:
        return device.wants_irq
    if hasattr(device, "irq_level"):
        return True
    bodies = [
        body
        for cls in type(device).__mro__
        if cls not in (Device, object)
        for value in vars(cls).values()
        if (body := getattr(getattr(value, "__func__", value), "__code__", None)) is not None
    ]
    return any(_names_irq(body) for body in bodies)


def _names_irq(body: CodeType) -> bool:
    """Also in what is defined inside it, such as a lambda."""
    return "irq" in body.co_names or any(
        _names_irq(inner) for inner in body.co_consts if isinstance(inner, CodeType)
    )


#: what `__new__` and being plugged in give a device; none of it travels
_WIRING = frozenset(
    {"lock", "irq", "clock", "memory", "r", "counters", "_accessors", "read", "write"}
    | {"on_mistake", "on_output", "_made"}
)
#: names that a handler must not have
_TAKEN = _WIRING | frozenset(dir(Device)) | frozenset(Device.__annotations__)
