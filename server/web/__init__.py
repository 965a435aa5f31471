"""The page at `/`: an HTML file, a style sheet and ES modules, served as they are. No build step.

ASSETS is the whole of it: what is served, under which path, and what needs no key.
"""

ASSETS = {
    "/": ("index.html", "text/html"),
    "/web/style.css": ("style.css", "text/css"),
    **{
        f"/web/{name}.js": (f"{name}.js", "text/javascript")
        for name in (
            "api", "app", "causes", "charts", "chat", "docs", "dom", "history",
            "inspector", "markdown", "pattern", "sse", "timeline",
        )
    },
}  # fmt: skip
