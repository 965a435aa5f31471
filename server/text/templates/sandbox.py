"""Where chat templates run: Jinja with HF's dialect, without access to Python, and with limits.

What is promised. A template can read its variables and call harmless functions: no attribute of
Python's machinery, no change of the caller's data, no code (Jinja's immutable sandbox). Nothing is
computed while it is compiled: constants are not folded. A render ends after `MAX_TURNS` turns of
its loops and macros, whatever machine it runs on, and of dear turns after about `TIME_LIMIT_S`;
what one operation may make is bounded by `limits.py`, and so is the whole output.

What is not. Memory is not bounded against every trick a template may know. Templates come only
from the operator's checkpoint, never from a request, and each is rendered once at load
(`ChatTemplate`): the limits are there for templates whose cost explodes with a user's messages.
This file knows no messages and no tokens.
"""

import time
from collections.abc import Callable
from datetime import datetime
from functools import reduce, wraps
from typing import Any, TypeVar

from jinja2 import Template, TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from thirdeye.server.text.templates.expanded_size import check_weights, weighed, weighing
from thirdeye.server.text.templates.limits import (
    check_format,
    check_join,
    check_method,
    check_numbers,
    check_operation,
    check_percent,
    check_size,
    check_sum,
    check_wrap,
    listed,
)
from thirdeye.server.text.templates.value_texts import (
    plain_text,
    printed,
    string,
    tojson,
    written,
    written_arguments,
    written_values,
)

MAX_TURNS = 250_000  # of all loops and macros of one render: about a second of small ones
TIME_LIMIT_S = 3.0  # of processor time, for turns that each look through a long text
MAX_TURN_S = 0.1  # what one turn counts at most
MAX_SOURCE = 1024 * 1024  # characters; the longest that models come with has some 30,000
_TICK = "_tick"  # the variable that holds the clock of one render
_WEIGHED = "_weighed"  # the filter that looks at a value's size
_TEXT = "_text"  # the filter that makes a plain text of a value, for `~`

Body = TypeVar("Body", nodes.For, nodes.Macro)


class TemplateRefusal(Exception):
    """The template itself said no, by `raise_exception`; the text is its own."""


class TemplateSandbox(ImmutableSandboxedEnvironment):
    """Compiles and renders templates. One serves all threads: a render's state is its variables."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[loopcontrols, _GenerationTag],
            optimized=False,
            finalize=printed,
        )
        self.code_generator_class = _NothingFolded
        for name in ("lipsum", "cycler", "joiner"):  # one makes megabytes, two are classes
            del self.globals[name]
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.filters["tojson"] = tojson
        self.filters["string"] = string
        tables: tuple[dict[str, Any], ...] = (self.filters, self.tests)
        for functions in tables:
            functions.update((name, _limited(name, each)) for name, each in functions.items())
        self.filters[_WEIGHED] = weighed
        self.filters[_TEXT] = plain_text

    def compile_template(self, source: str) -> Template:
        """Raises `jinja2.TemplateError` for a source that is no template."""
        if len(source) > MAX_SOURCE:
            raise TemplateSyntaxError(f"it has more than {MAX_SOURCE} characters", 1)
        try:
            tree: nodes.Template = _Limiter().visit(self.parse(source))
            tree.set_environment(self)
            return self.from_string(tree)
        except (RecursionError, SyntaxError, MemoryError) as error:
            # Of Python's parser: Jinja's own nesting is limited by Python's.
            raise TemplateSyntaxError("it is nested too deeply", 1) from error
        except ValueError as error:
            raise TemplateSyntaxError("it has a number of too many digits", 1) from error

    def run(self, template: Template, variables: dict[str, Any]) -> str:
        """The rendered text. Raises whatever the template runs into, `SecurityError` at a limit."""
        clock = _Clock()
        pieces, num_chars = [], 0
        with weighing():
            for piece in template.generate(variables | {_TICK: clock.tick}):
                num_chars += len(piece)
                check_size(num_chars)
                pieces.append(piece)
        return "".join(pieces)

    # Jinja's names: the template's own keywords must not collide with them.
    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        check_numbers((*args, *kwargs.values()))
        check_weights((*args, *kwargs.values()))
        text = getattr(__obj, "__self__", None)
        if isinstance(text, str):
            check_method(text, __obj.__name__, args)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        check_operation(operator, left, right)
        if operator == "%" and isinstance(left, str):
            right = written_values(left, right)
        return super().call_binop(context, operator, left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        formatted = super().wrap_str_format(value)
        if formatted is None:
            return None
        make: Callable[..., str] = formatted

        def limited(*args: Any, **kwargs: Any) -> str:
            check_format(value.__self__, [*args, *kwargs.values()])
            positional = written_arguments(value.__self__, dict(enumerate(args)))
            return make(*positional.values(), **written_arguments(value.__self__, kwargs))

        return limited


class _Clock:
    """Counts a render's turns, and the processor time of its thread where that is the template's.

    A thread's time is not all its own: a collection of the whole process's garbage falls on whoever
    allocates, and a virtual machine's pauses on whoever runs. Such a halt falls into one turn, of
    which no more than `MAX_TURN_S` counts: a busy machine must not make a template fail.
    """

    def __init__(self) -> None:
        self._num_turns, self._seconds = 0, 0.0
        self._last = time.thread_time()

    def tick(self) -> None:
        self._num_turns += 1
        if self._num_turns > MAX_TURNS:
            raise SecurityError(
                f"it takes more than {MAX_TURNS:,} turns of its loops; send fewer messages"
            )
        now = time.thread_time()
        self._seconds += min(now - self._last, MAX_TURN_S)
        self._last = now
        if self._seconds > TIME_LIMIT_S:
            raise SecurityError(
                f"its loops take more than {TIME_LIMIT_S:g} s of processor time; "
                "send fewer or shorter messages"
            )


class _NothingFolded(CodeGenerator):
    """Compiles without computing. Jinja would print the value of a constant expression instead of
    the expression, and compute it on the way, outside every limit."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


def _limited(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, with its arguments judged first. What it is applied to may be any number."""
    first = 2 if hasattr(function, "jinja_pass_arg") else 1

    @wraps(function)
    def limited(*args: Any, **kwargs: Any) -> Any:
        text, options = args[first - 1], args[first:]
        check_numbers((*options, *kwargs.values()))
        check_weights((text, *options, *kwargs.values()))
        if name == "format":
            check_percent(str(text), [*options, *kwargs.values()])
            args = (*args[:first], *map(written, options))
            kwargs = {key: written(value) for key, value in kwargs.items()}
        elif name == "join":
            text = listed(text)
            if isinstance(text, (list, tuple)) and not kwargs.get("attribute") and len(options) < 2:
                text = [*map(written, text)]
            args = (*args[: first - 1], text, *options)
            check_join(str(options[0]) if options else "", text)
        elif name == "sum":
            text = listed(text)
            args = (*args[: first - 1], text, *options)
            check_sum([*text, *options, *kwargs.values()])
        elif name == "wordwrap":
            check_wrap(str(text), [*options, *kwargs.values()])
        elif name == "replace":
            check_method(str(text), "replace", options)
        return function(*args, **kwargs)

    return limited


class _Limiter(NodeTransformer):
    """Puts a tick of the clock into loops and macros, and makes `a ~ b` a `+` of plain texts, which
    is checked."""

    def visit_For(self, node: nodes.For) -> nodes.For:
        return self._watch(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:
        _check_name(node.name, node)
        return self._watch(node)

    def visit_Name(self, node: nodes.Name) -> nodes.Name:
        _check_name(node.name, node)
        return node

    def _watch(self, node: Body) -> Body:
        self.generic_visit(node)
        look = nodes.Call(nodes.Name(_TICK, "load"), [], [], None, None)
        node.body.insert(0, nodes.ExprStmt(look, lineno=node.lineno))
        return node

    def visit_List(self, node: nodes.List) -> nodes.Expr:
        has_values = any(not isinstance(item, nodes.Const) for item in node.items)
        return self._weigh(node) if has_values else node

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        return self._weigh(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Expr:
        return self._weigh(node) if node.ctx == "load" else node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        """Its operands may have grown by additions."""
        self.generic_visit(node)
        node.expr = self._weighed(node.expr)
        for operand in node.ops:
            operand.expr = self._weighed(operand.expr)
        return node

    def _weigh(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        return self._weighed(node)

    def _weighed(self, node: nodes.Expr) -> nodes.Expr:
        if isinstance(node, nodes.Const):
            return node
        return nodes.Filter(node, _WEIGHED, [], [], None, None)

    def visit_ScopedEvalContextModifier(self, node: nodes.ScopedEvalContextModifier) -> None:
        raise TemplateSyntaxError("a chat template has no 'autoescape'", node.lineno)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        strings = [nodes.Filter(n, _TEXT, [], [], None, None) for n in node.nodes]
        return reduce(nodes.Add, strings)  # type: ignore[arg-type] # Add is an Expr


def _check_name(name: str, node: nodes.Node) -> None:
    """A template that gave the clock another meaning would have no limits."""
    if name == _TICK:
        raise TemplateSyntaxError(f"{name!r} is no name for a template", node.lineno)


class _GenerationTag(Extension):
    """`{% generation %}` marks an assistant's text for training; here it is its body and no
    more."""

    tags = {"generation"}  # noqa: RUF012 # jinja's own type

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> None:
    raise TemplateRefusal(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
