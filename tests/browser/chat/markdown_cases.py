"""Markdown, and the elements that it becomes: what CommonMark and GFM say, in a short form.

Links show their address, blocks of code their language, formulas `math` or `display` with their
source. Pictures are links, HTML is text, a line end stays one, headings go a level down. Most of
these a parser by hand gets wrong.
"""

CASES: tuple[tuple[str, str], ...] = (
    (
        "1. a\n\n   ```py\n   x\n   ```\n\n2. b",
        "<ol><li><p>a</p><pre py>x</pre></li><li><p>b</p></li></ol>",
    ),
    (
        "1. a\n   ```\n   x\n     y\n   ```\n2. b",
        "<ol><li>a<pre>x\n  y</pre></li><li>b</li></ol>",
    ),
    (
        "\\(x_1*2*\\) and \\[y_2\\]",
        "<p><math>\\(x_1*2*\\)</math> and <display>\\[y_2\\]</display></p>",
    ),
    (
        "- a\n\n  b\n- c",
        "<ul><li><p>a</p><p>b</p></li><li><p>c</p></li></ul>",
    ),
    (
        "1. a\n\n2. b",
        "<ol><li><p>a</p></li><li><p>b</p></li></ol>",
    ),
    (
        "1. a\n1. b\n1. c",
        "<ol><li>a</li><li>b</li><li>c</li></ol>",
    ),
    (
        "text\n| a | b |\n|-|:-:|\n| 1 | 2 |",
        "<p>text</p><table><thead><tr><th>a</th><th center>b</th></tr></thead><tbody><tr><td>1</td><td center>2</td></tr></tbody></table>",
    ),
    (
        "| a \\| b | c |\n|---|---|\n| 1 | 2 | 3 |\n| 4 |",
        "<table><thead><tr><th>a | b</th><th>c</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr><tr><td>4</td><td></td></tr></tbody></table>",
    ),
    (
        "see https://a.b/c_d. <https://e.f> <m@x.org> www.x.org",
        "<p>see <a https://a.b/c_d>https://a.b/c_d</a>. <a https://e.f>https://e.f</a> <a mailto:m@x.org>m@x.org</a> <a http://www.x.org>www.x.org</a></p>",
    ),
    (
        '[a](https://x.y/b_(c)) [r][1] [1]\n\n[1]: https://r.s "t"',
        "<p><a https://x.y/b_(c)>a</a> <a https://r.s>r</a> <a https://r.s>1</a></p>",
    ),
    (
        "***x*** **a * b** __b__ snake_case_name",
        "<p><em><strong>x</strong></em> <strong>a * b</strong> <strong>b</strong> snake_case_name</p>",
    ),
    (
        "``a`b`` ` x `",
        "<p><code>a`b</code> <code>x</code></p>",
    ),
    (
        "&amp; &copy; &#65; &#x42; &nope; &lt;b&gt;",
        "<p>& © A B &nope; <b></p>",
    ),
    (
        "    indented\n    code",
        "<pre>indented\ncode</pre>",
    ),
    (
        "Set\n===\n\nSub\n---",
        "<h2>Set</h2><h3>Sub</h3>",
    ),
    (
        "- [x] done\n- [ ] to do",
        "<ul><li done>done</li><li todo>to do</li></ul>",
    ),
    (
        "[`c` *e*](https://x.y)",
        "<p><a https://x.y><code>c</code> <em>e</em></a></p>",
    ),
    (
        "~x~ ~~y~~",
        "<p><s>x</s> <s>y</s></p>",
    ),
    (
        '\\& \\" \\* \\a',
        '<p>& " * \\a</p>',
    ),
    (
        "The year was\n1984. Good.",
        "<p>The year was\n1984. Good.</p>",
    ),
    (
        "- a\n+ b",
        "<ul><li>a</li></ul><ul><li>b</li></ul>",
    ),
    (
        "# h1 #\n###### h6\n#no",
        "<h2>h1</h2><h6>h6</h6><p>#no</p>",
    ),
    (
        "> a\nlazy\n> - b",
        "<blockquote><p>a\nlazy</p><ul><li>b</li></ul></blockquote>",
    ),
    (
        "---\n***\n_ _ _",
        "<hr><hr><hr>",
    ),
    (
        "a  \nb\\\nc\nd",
        "<p>a<br>b<br>c\nd</p>",
    ),
    (
        "<b>x</b> <br> <!-- c -->",
        "<p><b>x</b> <br> <!-- c --></p>",
    ),
    (
        "<div>\n*x*\n</div>",
        "<p><div>\n*x*\n</div></p>",
    ),
    (
        "![alt](https://x.y/i.png) ![](https://x.y/z) ![p](javascript:x)",
        "<p><a https://x.y/i.png>🖼 alt</a> <a https://x.y/z>🖼 https://x.y/z</a> ![p](javascript:x)</p>",
    ),
    (
        "```py\nx < 1 && y\n",
        "<pre py>x < 1 && y</pre>",
    ),
    (
        "~~~\na\n```\n~~~",
        "<pre>a\n```</pre>",
    ),
    (
        "1) a\n2) b",
        "<ol><li>a</li><li>b</li></ol>",
    ),
    (
        "3. c\n4. d",
        "<ol 3><li>c</li><li>d</li></ol>",
    ),
    (
        "- a\n  - b\n    - c\n- d",
        "<ul><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ul>",
    ),
    (
        "* a\n\n\n* b",
        "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
    ),
    (
        "a[^1]\n\n[^1]: note",
        "<p>a[^1]</p><p>[^1]: note</p>",
    ),
    (
        "$5 and $6, $x^2$ costs $7",
        "<p>$5 and $6, <math>$x^2$</math> costs $7</p>",
    ),
    (
        "$$\na^2\n$$",
        "<display>$$\na^2\n$$</display>",
    ),
    (
        "- $$b$$ and $c$",
        "<ul><li><display>$$b$$</display> and <math>$c$</math></li></ul>",
    ),
    (
        "*a $x*y$ b*",
        "<p><em>a <math>$x*y$</math> b</em></p>",
    ),
    (
        "| a |\n|---|\n| $x|y$ `a\\|b` |",
        "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>$x</td></tr></tbody></table>",
    ),
    (
        "`` ` ``",
        "<p><code>`</code></p>",
    ),
    (
        "[x](mailto:a@b.c) [y](ftp://x) [z](/rel)",
        "<p><a mailto:a@b.c>x</a> [y](ftp://x) [z](/rel)</p>",
    ),
    (
        "[![i](https://a.b/i)](https://c.d)",
        "<p><a https://c.d>🖼 i</a></p>",
    ),
    (
        "x <https://a.b/?q=1&amp;r=2> y",
        "<p>x <a https://a.b/?q=1&r=2>https://a.b/?q=1&r=2</a> y</p>",
    ),
    (
        "**bold**text and 中**文**字",
        "<p><strong>bold</strong>text and 中<strong>文</strong>字</p>",
    ),
    (
        "line one\nline two",
        "<p>line one\nline two</p>",
    ),
    (
        "\\$5 and \\\\ back",
        "<p>$5 and \\ back</p>",
    ),
    (
        "1. one\n   - two\n\n     para\n2. three",
        "<ol><li>one<ul><li><p>two</p><p>para</p></li></ul></li><li>three</li></ol>",
    ),
)
