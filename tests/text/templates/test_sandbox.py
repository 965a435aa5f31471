"""Twelve attacks on a template engine, and HF's dialect of Jinja."""

import json
import time
from datetime import datetime
from typing import Any

import pytest
from jinja2 import TemplateError, TemplateSyntaxError

from tests.draws import also_at_night, is_night
from thirdeye.server.text.templates import expanded_size, sandbox
from thirdeye.server.text.templates.limits import MAX_CHARS
from thirdeye.server.text.templates.sandbox import (
    MAX_SOURCE,
    TIME_LIMIT_S,
    TemplateRefusal,
    TemplateSandbox,
)

SANDBOX = TemplateSandbox()


def run(source: str, **variables: Any) -> str:
    return SANDBOX.run(SANDBOX.compile_template(source), variables)


# Two lists of a few hundred bytes, of a million million million elements each.
DOUBLED = (
    "{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}"
)
ATTACKS = {
    "globals through cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "the class tree": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "a huge range": "{% for i in range(10**9) %}x{% endfor %}",
    "a silent nest of ranges": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}"
    "{% endfor %}",
    "a loud nest of ranges": "{% for i in range(99999) %}{% for j in range(99999) %}x{% endfor %}"
    "{% endfor %}",
    "a multiplied string": "{{ 'a' * 10**9 }}",
    "a multiplied string, turned round": "{% set n = 10**9 %}{{ n * 'a' }}",
    "a multiplied list": "{% set n = 10**9 %}{{ [1] * n }}",
    "a macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(50) }}",
    "a change of the caller's list": "{{ messages.append(1) }}",
    "a wide center": "{{ 'a'.center(10**9) }}",
    "a large keyword": "{{ dict(width=10**9) }}",
    "a string doubled by +": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
    "a string doubled by ~": "{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
    "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "lipsum": "{{ lipsum(n=100000) }}",
    "a power": "{% set x = 9 ** (9 ** 9) %}{{ x }}",
    "powers of constants": "{{ (10**5)**(10**5) }}",
    "a squared number": "{% set ns = namespace(x=9) %}{% for i in range(60) %}"
    "{% set ns.x = ns.x * ns.x %}{% endfor %}{{ ns.x }}",
    "a center of constants": "{{ 'a'|center(10**9) }}",
    "a center in a condition": "{% if 'a'|center(10**9) %}x{% endif %}",
    "a center in an assignment": "{% set x = 'a'|center(width=10**9) %}",
    "a wide %": "{{ '%1000000000d' % 1 }}",
    "a precise %": "{{ '%.1000000000f' % 1 }}",
    "many wide %": "{{ ('%999999d' * 999) % ([1] * 999) }}",
    "a computed width": "{{ '%*d' % (10**9, 1) }}",
    "a wide format filter": "{{ '%1000000000d'|format(1) }}",
    "a wide format": "{{ '{:>1000000000}'.format('a') }}",
    "a computed format": "{{ '{:>{}}'.format('a', 10**9) }}",
    "a repeated field": "{{ ('{0}' * 9999).format('a' * 999999) }}",
    "a replaced letter": "{{ ('a' * 999999).replace('a', 'b' * 999999) }}",
    "a replaced nothing": "{{ ('a' * 999999)|replace('', 'b' * 999999) }}",
    "a long separator": "{{ ('b' * 999999).join(['a'] * 9999) }}",
    "a long separator's filter": "{{ (['a'] * 9999)|join('b' * 999999) }}",
    "long pieces": "{{ (['b' * 999999] * 9999)|join }}",
    "tabs": "{{ ('\\t' * 999999).expandtabs(999999) }}",
    "a wide indent": "{{ 'a\\nb'|indent(10**9) }}",
    "a list of lists": DOUBLED + "{{ ns.x|tojson }}",
    "a list of lists, printed": DOUBLED + "{{ ns.x }}",
    "a list of lists, compared": DOUBLED + "{{ ns.x == ns.y }}",
    "a list of lists, tested": DOUBLED + "{{ ns.x is eq(ns.y) }}",
    "a tuple of tuples, hashed": "{% set ns = namespace(x=(1,)) %}{% for i in range(60) %}"
    "{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1}|length }}",
    "a dict of dicts": "{% set ns = namespace(x={}) %}{% for i in range(60) %}"
    "{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x|string|length }}",
    "a namespace of namespaces": "{% set ns = namespace(x=1) %}{% for i in range(60) %}"
    "{% set ns.x = namespace(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "a list of a namespace that grows": "{% set ns = namespace(x=[1]) %}{% set l = [ns, 'aaa'] %}"
    "{% if l|string %}{% endif %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}"
    "{% endfor %}"
    "{{ l }}",
    "a list of lists, added": "{% set ns = namespace(x=['a'], y=['a']) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x + ns.x] %}{% set ns.y = [ns.y + ns.y] %}{% endfor %}{{ ns.x < ns.y }}",
    "a default of defaults": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [{}, {}]|map(attribute='a', default=ns.x)|list %}{% endfor %}{{ ns.x|string }}",
    "a sum of lists": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}"
    "{% set ns.x = [ns.x, ns.x]|sum(start=[]) %}{% endfor %}{{ ns.x|length }}",
    "a wide wrap": "{{ ('a ' * 400000)|wordwrap(1, wrapstring='b' * 99999) }}",
    "a wide translation": "{{ ('a' * 900000).translate({97: 'b' * 9999}) }}",
    "pieces of an iterator": "{{ (['b' * 999999] * 9999)|map('upper')|join }}",
    "a long list": "{{ [1] * 1000000 }}",
    "output without end": "{% for i in range(99999) %}{{ big }}{% endfor %}",
}


@also_at_night
@pytest.mark.parametrize("source", ATTACKS.values(), ids=ATTACKS.keys())
def test_attacks_are_stopped_soon(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At night at the size that is served; at a push at a twentieth of it."""
    monkeypatch.setattr(sandbox, "MAX_TURNS", 9000)
    if not is_night():
        monkeypatch.setattr(expanded_size, "SMALL", 50_000)
    messages = [{"role": "user"}]
    start = time.thread_time()
    template = SANDBOX.compile_template(source)
    assert time.thread_time() - start < 1, "something was computed while it was compiled"
    start = time.thread_time()
    with pytest.raises((TemplateError, RecursionError)):
        SANDBOX.run(template, {"messages": messages, "big": "b" * 10_000})
    assert time.thread_time() - start < TIME_LIMIT_S + 1
    assert messages == [{"role": "user"}]


@pytest.mark.parametrize(
    "source",
    ["{{ ''|attr('format') }}", "{% set x = 9 ** 9 ** 2 %}ok"],
    ids=["attr filter to str.format", "nested powers"],
)
def test_harmless_attacks_do_no_harm(source: str) -> None:
    assert len(run(source)) < 200


@pytest.mark.parametrize(
    "source",
    [
        "{% autoescape 'a'|center(10**9) %}x{% endautoescape %}",
        "{% for i in x %}" * 30 + "{% endfor %}" * 30,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "a" * (MAX_SOURCE + 1),
        "{{ " + "9" * 5000 + " }}",
        "{% set _tick = namespace %}",
        "{% for _tick in [namespace] %}{% endfor %}",
        "{% macro _tick() %}{% endmacro %}",
        "{% macro f(_tick) %}{% endmacro %}",
        "{% with _tick = namespace %}{% endwith %}",
        "{{ _tick() }}",
    ],
    ids=[
        *("autoescape", "nested loops", "nested parentheses", "a long source", "a long number"),
        *("a clock of its own", "one in a loop", "a macro", "an argument", "a block's"),
        "the clock",
    ],
)
def test_what_cannot_be_compiled_is_no_template(source: str) -> None:
    with pytest.raises(TemplateError):
        SANDBOX.compile_template(source)


def test_numbers_and_texts_of_templates_are_within_the_limits() -> None:
    """What templates of models really do."""
    assert run("{{ 1700000000|string ~ 7 % 2 ~ 2 ** 10 }}") == "170000000011024"
    assert run("{{ '%s: %5.1f%%'|format('a', 3) }}{{ '%d' % 7 }}") == "a:   3.0%7"
    assert run("{{ '{:>3}|{}'.format(1, 'b') }}{{ ['a', 'b']|join(', ') }}") == "  1|ba, b"
    assert run("{{ text.replace('a', 'b')|replace('c', 'd')|indent(2) }}", text="aca") == "bdb"
    assert run("{{ text.split('\n')|join('\t') }}", text="a\nb") == "a\tb"


def test_values_that_are_held_twice_are_no_attack() -> None:
    """And what is compared may be large, as times are."""
    assert (
        run("{% set x = [messages, messages] %}{{ x[0] == x[1] }}", messages=[{"a": 1}]) == "True"
    )
    assert run("{{ 1700000000 < now and (1, 'a') in [(1, 'a')] }}", now=1800000000) == "True"
    many = [{"role": "user", "content": "x" * 400} for _ in range(2000)]
    source = "{% for m in messages %}{{ messages|length if loop.last }}{% endfor %}"
    assert run(source, messages=many) == "2000"
    knot: dict[str, object] = {}
    knot["self"] = knot
    assert run("{{ knot is mapping }}", knot=knot) == "True"


def test_format_cannot_reach_into_python() -> None:
    with pytest.raises(TemplateError):
        run("{{ '{0.__class__.__mro__}'.format(messages) }}", messages=[])


def test_the_clock_is_one_renders_own() -> None:
    """A limit that was counted over all renders would refuse the second."""
    loop = "{% for i in range(1000) %}x{% endfor %}"
    template = SANDBOX.compile_template(loop)
    assert [len(SANDBOX.run(template, {})) for _ in range(3)] == [1000] * 3


def test_large_messages_are_no_attack() -> None:
    text = "x" * (MAX_CHARS // 4)
    assert run("{{ 'a' + text + ('b' ~ text) }}", text=text) == f"a{text}b{text}"


def test_blocks_leave_no_whitespace() -> None:
    assert run("a\n  {% if true %}\nb\n  {% endif %}\nc") == "a\nb\nc"


def test_loop_controls() -> None:
    source = "{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    assert run(source) == "012"


def test_loops_still_know_their_variables() -> None:
    """The clock that is put into each loop must not change what the loop does."""
    body = "{{ loop.index }}{{ x }}{{ '.' if loop.last }}"
    source = "{% for x in xs if x %}" + body + "{% else %}none{% endfor %}"
    assert (run(source, xs=[0, 5, 6]), run(source, xs=[])) == ("1526.", "none")


def test_concatenation_makes_strings_of_numbers() -> None:
    assert run("{{ 1 ~ 2 ~ none ~ x }}") == "12None"


def test_addition_and_multiplication_of_numbers() -> None:
    assert run("{{ 2 + 3 * 4 }}{{ [1] + [2] * 2 }}{{ 'ab' * 2 }}") == "14[1, 2, 2]abab"


def test_generation_tags_are_their_body() -> None:
    source = "{% for m in ms %}{% generation %}{{ m }}{% endgeneration %}\n{% endfor %}"
    assert run(source, ms=["a", "b"]) == "ab"


def test_tojson_is_for_models_not_for_html() -> None:
    value = {"b": "<é🎉'&>\n", "a": [1, None, True]}
    assert run("{{ v|tojson }}", v=value) == json.dumps(value, ensure_ascii=False)
    assert run("{{ v|tojson(indent=4) }}", v=value) == json.dumps(
        value, ensure_ascii=False, indent=4
    )


def test_text_is_never_escaped() -> None:
    assert run("{{ t }}", t="<b>&'\"") == "<b>&'\""


def test_raise_exception_is_the_templates_own_word() -> None:
    with pytest.raises(TemplateRefusal, match=r"^roles must alternate$"):
        run("{{ raise_exception('roles must alternate') }}")


def test_strftime_now() -> None:
    assert run("{{ strftime_now('%Y') }}") == str(datetime.now().year)


def test_a_broken_template_does_not_compile() -> None:
    with pytest.raises(TemplateSyntaxError):
        SANDBOX.compile_template("{% for %}")
