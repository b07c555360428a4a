"""Rehearsals as one HTML page that needs nothing else: failures first, with what their screens showed.

All that comes from a vCenter or a guest is text; the page's policy lets nothing run and nothing be fetched.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape

from hyperctl.client.render.rehearsed import (
    count_text,
    fact_rows,
    failures_first,
    reason_text,
    warnings_of,
)
from hyperctl.client.render.story import STEP_NAMES, proof_lines
from hyperctl.client.render.text import duration, safe, size
from hyperctl.workflows.rehearsal import RehearsalResult

_PNG = b"\x89PNG\r\n\x1a\n"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #17803d; --bad: #c62828; --unknown: #a15c00; }
@media (prefers-color-scheme: dark) { :root { --good: #5fd38a; --bad: #ff8a80; --unknown: #ffc069; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 0; } h3 { font-size: 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; }
th, td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
th { white-space: nowrap; font-weight: 600; } .number { white-space: nowrap; }
section { border: 1px solid var(--line); border-radius: 6px; padding: 1rem; margin: 1rem 0; }
.boots { color: var(--good); } .does_not_boot { color: var(--bad); } .not_rehearsed { color: var(--unknown); }
.verdict { font-weight: 700; white-space: nowrap; } .quiet { opacity: .75; }
img { max-width: 100%; border: 1px solid var(--line); background: #000; }
ul { padding-left: 1.2rem; } summary { cursor: pointer; }
@media (max-width: 45rem) { .number { display: none; } }
@media print { section { break-inside: avoid; } }
"""


def report_page(results: Sequence[RehearsalResult]) -> str:
    """The page. Its texts may hold anything; none of it becomes markup."""
    ordered = failures_first(results)
    title = f"Rehearsal of {ordered[0].vm_name}" if len(ordered) == 1 else f"{len(ordered)} rehearsals"
    counted = f"{count_text(ordered)}; " if len(ordered) > 1 else ""
    made = f"{counted}written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    body = [f"<h1>{_text(title)}</h1>", f'<p class="quiet">{_text(made)}</p>']
    if len(ordered) > 1:
        body += _overview(ordered)
    for number, result in enumerate(ordered):
        body += _section(number, result)
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_text(title)}</title>",
            f"<style>{_STYLE}</style></head>",
            "<body>",
            *body,
            "</body></html>\n",
        )
    )


def _overview(results: Iterable[RehearsalResult]) -> Iterator[str]:
    yield "<table><thead><tr>"
    yield "".join(f"<th>{title}</th>" for title in ("VM", "Verdict", "Why"))
    yield "".join(f'<th class="number">{title}</th>' for title in ("Read", "Took", "Copy, est."))
    yield "</tr></thead><tbody>"
    for number, result in enumerate(results):
        read = size(result.read_bytes) if result.read_bytes else "-"
        took = duration(result.duration_seconds) if result.duration_seconds else "-"
        copy = duration(result.estimate.copy_seconds) if result.estimate else "-"
        yield (
            f'<tr><td><a href="#vm{number}">{_text(result.vm_name)}</a></td><td>{_verdict(result)}</td>'
            f"<td>{_text(reason_text(result))}</td>"
            f'<td class="number">{read}</td><td class="number">{took}</td><td class="number">{copy}</td></tr>'
        )
    yield "</tbody></table>"


def _section(number: int, result: RehearsalResult) -> Iterator[str]:
    yield f'<section id="vm{number}"><h2>{_text(result.vm_name)}: {_verdict(result)}</h2>'
    for failure in result.reasons:
        hint = f'<br><span class="quiet">{_text(failure.hint)}</span>' if failure.hint else ""
        yield f"<p>{_text(failure.message)}{hint}</p>"
    picture = _picture(result.screen)
    if picture:
        alt = f"The screen of {result.vm_name} when its boot was given up"
        yield f'<p><img alt="{_text(alt)}" src="{picture}"></p>'
    yield from _listed("Worth knowing", dict.fromkeys(warnings_of(result)))
    yield "<table><tbody>"
    for label, value in (("Source", result.origin), *fact_rows(result), ("Job", result.job_id)):
        yield f"<tr><th>{_text(label)}</th><td>{_text(value)}</td></tr>"
    yield "</tbody></table>"
    if result.steps:
        yield "<details><summary>Conversion</summary><table><tbody>"
        for step in result.steps:
            outcome = step.outcome.value.replace("_", " ")
            yield (
                f"<tr><th>{_text(STEP_NAMES[step.step])}</th><td>{_text(outcome)}</td>"
                f"<td>{_text(step.detail)}</td></tr>"
            )
        yield "</tbody></table></details>"
    if result.proof:
        lines = (f"{line.mark.word}: {line.text}" for line in proof_lines(result.proof))
        yield from ("<details><summary>Boot proof</summary>", *_listed("", lines), "</details>")
    yield "</section>"


def _listed(title: str, lines: Iterable[str]) -> Iterator[str]:
    items = [f"<li>{_text(line)}</li>" for line in lines]
    if items:
        yield (f"<h3>{_text(title)}</h3>" if title else "") + f"<ul>{''.join(items)}</ul>"


def _verdict(result: RehearsalResult) -> str:
    return f'<span class="verdict {result.verdict}">{_text(result.verdict.words)}</span>'


def _picture(screen: str) -> str:
    """A data: URI of what is a PNG; empty for anything else."""
    try:
        content = base64.b64decode(screen, validate=True)
    except (binascii.Error, ValueError):
        return ""
    if not content.startswith(_PNG):
        return ""
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _text(text: str) -> str:
    return escape(safe(text))
