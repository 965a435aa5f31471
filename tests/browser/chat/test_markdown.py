"""What a model writes, as elements: CommonMark and GFM, formulas, colors, and nothing that acts."""

from typing import Any

from tests.api.support import Served
from tests.browser.chat.markdown_cases import CASES
from tests.browser.conftest import stay, until, visit

RENDER = """async (texts) => {
  const { render } = await import('/web/markdown/markdown.js');
  return texts.map((text) => {
    const node = document.createElement('div');
    node.className = 'body';
    document.querySelector('#log').append(node);
    render(node, text);
    return outline(node);
  });
  function outline(node) {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    const inner = [...node.childNodes].map(outline).join('');
    const [tag, kind] = [node.localName, node.classList];
    if (kind.contains('code-head') || node.getAttribute('role') === 'img') return '';
    if (kind.contains('code')) {
      return `<pre${mark(node.querySelector('.code-head span').textContent)}>${inner}</pre>`;
    }
    if (kind.contains('math')) {
      const form = kind.contains('display') ? 'display' : 'math';
      return `<${form}>${inner}</${form}>`;
    }
    const isBare = tag === 'pre' || tag === 'div' || tag === 'span' || node.closest('pre');
    if (isBare) return inner;
    const box = node.querySelector('[role=img]')?.ariaLabel.replaceAll(' ', '');
    const more = mark(node.getAttribute('href') ?? node.getAttribute('start')
      ?? (kind.contains('task') ? box : node.className.replace('to-', '')));
    return /^[hb]r$/.test(tag) ? `<${tag}>` : `<${tag}${more}>${inner}</${tag}>`;
  }
  function mark(what) { return what ? ` ${what}` : ''; }
}"""


def test_markdown_is_what_commonmark_and_gfm_say(browser: Any, shared: Served) -> None:
    with stay(browser, shared.url) as seen:
        found = seen.page.evaluate(RENDER, [text for text, _ in CASES])
        wrong = [
            (text, got, wanted)
            for got, (text, wanted) in zip(found, CASES, strict=True)
            if got != wanted
        ]
        assert wrong == []


# Beside these, what an answer may say without a formula is in `test_hostile.py`.
HOSTILE = [
    r"$\href{javascript:alert(1)}{x}$",
    r"$\url{javascript:alert(1)}$ $\href{http://evil.example/}{x}$",
    r"$\includegraphics{http://evil.example/x.png}$",
    r"$\htmlData{onclick=alert(1)}{x} \htmlStyle{position:fixed}{x} \htmlId{model}{x}$",
    r"$\def\x{\x\x}\x$ $\rule{9999em}{9999em}$",
    r"$\text{<img src=http://evil.example/x onerror=alert(1)>}$",
    r"$<script>alert(1)</script>$",
    "$" + "{" * 3000 + "}" * 3000 + "$",
    "```html\n<script>alert(1)</script><img src=x onerror=alert(1)>\n```",
    "```js\nconst x = '</span><img src=x onerror=alert(1)>'; // &lt;b&gt;\n```",
    "```__proto__\nx\n```\n\n```constructor\nx\n```",
    "[x](&#106;avascript:alert(1)) [y](&#x6A;avascript&colon;alert(1))",
    "[x]: javascript:alert(1)\n\n[x] [y]\n\n[y]: <data:text/html,x>",
    "![x](javascript:alert(1)) [![x](http://evil.example/i)](javascript:alert(1))",
]

BAD = """() => [
  ...document.querySelectorAll('#log :is(script, img, iframe, object, embed, style, link, base,'
    + 'meta, form, video, audio, input, template, foreignObject)'),
  ...[...document.querySelectorAll('#log a')].filter((a) =>
    !/^(https?|mailto):/.test(a.href) || a.rel !== 'noopener noreferrer'),
  ...document.querySelectorAll('#log .math a'),
  ...[...document.querySelectorAll('#log *')].filter((node) => [...node.attributes].some(
    ({ name, value }) => /^on|^data-/.test(name) || (name === 'id' && value === 'model'))),
].map((node) => node.outerHTML)"""


def test_formulas_and_code_are_drawn_and_act_on_nothing(browser: Any, shared: Served) -> None:
    """With no violation of the policy: one would be an error on the console, which fails this."""
    formulas = [
        r"$x^2$",
        r"\(\sqrt{\frac{a}{b}}\)",
        r"$$\begin{pmatrix}1&2\\3&4\end{pmatrix}\overbrace{a+b}^{c}$$",
        r"\[\colorbox{yellow}{$\fbox{x}$}\color{red}\pmb{y}\]",
    ]
    code = ['```py\ndef f(): return "<b>&amp;"\n```', "```rust\nfn main() {}\n```", "```c\nint x;"]
    with visit(browser, shared.url) as seen:  # formulas are not fetched yet
        page = seen.page
        page.evaluate(RENDER, formulas + code)
        until(page, f"document.querySelectorAll('.katex').length === {len(formulas)}")
        until(page, "document.querySelectorAll('.hljs-keyword').length >= 3")
        assert page.locator("[role=math]").first.get_attribute("aria-label") == "x^2"
        blocks = page.locator("pre code").all_inner_texts()
        assert blocks == ['def f(): return "<b>&amp;"', "fn main() {}", "int x;"]
        assert page.locator("pre >> nth=2 >> span").count() == 0  # it has not ended yet
        fonts = "[...document.fonts].filter((font) => font.status === 'loaded').length"
        until(page, f"{fonts} > 0")
        page.evaluate(RENDER, HOSTILE)
        page.evaluate(RENDER, ["$last$"])
        until(page, "[...document.querySelectorAll('.katex')].at(-1).textContent === 'last'")
        assert page.evaluate(BAD) == []


DIRECTIONS = """async (text) => {
  const { render } = await import('/web/markdown/markdown.js');
  const node = document.createElement('div');
  node.className = 'body';
  document.querySelector('#log').append(node);
  render(node, text);
  return [...node.querySelectorAll('p, ul, li, table, pre, blockquote')].map(
    (one) => one.localName + ' ' + getComputedStyle(one).direction);
}"""


def test_each_block_goes_the_way_of_its_first_letter(browser: Any, shared: Served) -> None:
    """Hebrew and Arabic from right to left, with their lists and tables; code never."""
    text = "שלום, world.\n\nHi שלום\n\n- مرحبا\n  ```\n  x = 1\n  ```\n\n> اقتباس\n\n|א|b|\n|-|-|"
    with stay(browser, shared.url) as seen:
        assert seen.page.evaluate(DIRECTIONS, text) == [
            "p rtl", "p ltr", "ul rtl", "li rtl", "pre ltr", "blockquote rtl", "p rtl", "table rtl",
        ]  # fmt: skip
        seen.page.fill("#prompt", "שלום")
        found = "getComputedStyle(document.querySelector('#prompt')).direction"
        assert seen.page.evaluate(found) == "rtl"


def test_growth_draws_what_the_whole_draws(browser: Any, shared: Served) -> None:
    """A block that has not changed stays the same element; a definition far below still links."""
    cases = "\n\n".join(text for text, _ in CASES[:12])
    text = f"First.\n\n{cases}\n\n[far]\n\nend\n\n[far]: https://f.ar"
    grow = """async (text) => {
      const { render } = await import('/web/markdown/markdown.js');
      const [grown, whole] = [document.createElement('div'), document.createElement('div')];
      let changes = 0;
      for (let i = 1; i <= text.length; i += 3) {
        const first = grown.firstChild;
        render(grown, text.slice(0, i));
        changes += first !== grown.firstChild;
      }
      render(grown, text);
      render(whole, text);
      return [grown.textContent === whole.textContent, grown.children.length,
        whole.children.length, changes, grown.querySelector('[href="https://f.ar"]') !== null];
    }"""
    with stay(browser, shared.url) as seen:
        is_same, grown, whole, num_changes, is_linked = seen.page.evaluate(grow, text)
        assert (is_same, grown, is_linked) == (True, whole, True)
        assert num_changes < 20  # of 160: as it is written, and while a definition comes


CIRCLES = ["_a", "*a ", "[", "a**", "![", "$", "\\(", "> ", "- "]


def test_a_model_that_goes_in_circles_does_not_freeze_the_page(
    browser: Any, shared: Served
) -> None:
    """What marked would take many seconds for, or would run out of stack with, is plain text."""
    texts = [circle * 20_000 + "x" for circle in CIRCLES]
    tables = ["|a" * 2000 + "\n" + "|-" * 2000, "- a\n" * 3000, "$$\n" * 3000]
    with stay(browser, shared.url) as seen:
        assert seen.page.evaluate(RENDER, texts) == [f"<p>{text}</p>" for text in texts]
        assert len(seen.page.evaluate(RENDER, tables)) == len(tables)
