"""The report of rehearsals: one page that fetches and runs nothing, failures first."""

import re
from html.parser import HTMLParser

from hyperctl.client.render.report import report_page
from hyperctl.workflows.errors import ErrorCode, Failure
from hyperctl.workflows.guest import Outcome, Step, StepOutcome
from tests.unit.rehearsals import SCREEN, booting, not_booting, not_rehearsed

HOSTILE = "\"><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>&amp;\x1b[31m\u202e"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser makes of it; a page whose tags do not match is no page."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_failures_come_first_and_each_by_name() -> None:
    results = [booting("b-boots"), not_rehearsed("c"), not_booting("z"), booting("a-boots"), not_booting("d")]
    page = Page(report_page(results))
    titles = re.findall(r"(\S+): (?:boots|does not boot|not rehearsed)", page.text)
    assert titles == ["d", "z", "c", "a-boots", "b-boots"]
    assert "2 do not boot, 1 not rehearsed, 2 boot" in page.text
    links = [link["href"] for link in page.named("a")]
    assert links == [f"#{section['id']}" for section in page.named("section")]


def test_what_a_guest_or_a_vcenter_says_is_text() -> None:
    failure = Failure(code=ErrorCode.PROOF_FAILED, message=HOSTILE, hint=HOSTILE)
    step = StepOutcome(step=Step.VIRTIO, outcome=Outcome.DONE, detail=HOSTILE, warnings=(HOSTILE,))
    hostile = not_booting(
        HOSTILE, reason=failure, steps=(step,), vcenter=HOSTILE, warnings=(HOSTILE,), job_id=HOSTILE
    )
    safe, page = Page(report_page([not_booting(), booting()])), Page(report_page([hostile, booting()]))
    assert {tag for tag, _ in page.tags} <= {tag for tag, _ in safe.tags}
    assert len(page.named("img")) == 1
    assert "<script>alert('x')</script>" in page.text
    assert "\x1b" not in report_page([hostile])
    assert "\u202e" not in report_page([hostile])


def test_it_fetches_nothing_and_runs_nothing() -> None:
    page = Page(report_page([not_booting(), booting()]))
    (picture,) = page.named("img")
    assert picture["src"] == f"data:image/png;base64,{SCREEN}"
    assert not page.named("script") + page.named("link")
    policies = [tag["content"] for tag in page.named("meta") if tag.get("http-equiv")]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]
    assert not {name for _, attributes in page.tags for name in attributes if name.startswith("on")}


def test_what_is_no_picture_is_left_out() -> None:
    for screen in ("", "not base64!", "PHN2Zz4=", '" onerror="alert(1)'):
        assert not Page(report_page([not_booting(screen=screen)])).named("img"), screen


def test_estimate_and_proof_are_told_with_what_they_are_from() -> None:
    text = Page(report_page([booting()])).text
    assert "41s for 4.0 GiB from the datastore at 100.0 MiB/s" in text
    assert "512.0 MiB to 1.0 GiB: 16 of 64 blocks read at random were not empty" in text
    assert "ens192 (00:50:56:aa:bb:01): 192.0.2.10/24" in text
    assert "no serial console" in text
