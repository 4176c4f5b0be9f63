"""The policy on skips: only listed ones, and none for a program that the run requires."""

from __future__ import annotations

import pytest

from tests import skips
from tests.skips import SKIPS, Skip, SkipPolicy, need, required

pytest_plugins = ["pytester"]

LISTED = (Skip("browser", "no browser"), Skip("capability", "* lacks *"))


def run(pytester: pytest.Pytester, source: str, required: frozenset[str] = frozenset()) -> pytest.RunResult:
    """Run a test module under the policy and nothing else of ours."""
    pytester.makepyfile(source)
    arguments = ("-p", "no:django", "-p", "no:playwright", "-p", "no:cacheprovider")
    return pytester.runpytest_inprocess(*arguments, plugins=[SkipPolicy(LISTED, required)])


@pytest.mark.parametrize("reason", ["no browser", "MemoryStore lacks Terminates"])
def test_a_listed_skip_is_allowed(pytester: pytest.Pytester, reason: str) -> None:
    result = run(pytester, f"import pytest\ndef test_a(): pytest.skip({reason!r})\ndef test_b(): pass")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1, skipped=1)


@pytest.mark.parametrize(
    "source",
    [
        "import pytest\ndef test_a(): pytest.skip('not today')\ndef test_b(): pass",
        "import pytest\n@pytest.mark.skip(reason='not today')\ndef test_a(): pass",
        "import pytest\n@pytest.mark.skipif(True, reason='not today')\ndef test_a(): pass",
        "import pytest\npytest.skip('not today', allow_module_level=True)",
        "import pytest\npytest.importorskip('not_today', reason='not today')",
    ],
    ids=["in a test", "mark", "conditional mark", "at collection", "importorskip"],
)
def test_a_skip_that_is_not_listed_fails_the_run(pytester: pytest.Pytester, source: str) -> None:
    result = run(pytester, source)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*does not list the reason*not today*"])


def test_a_listed_skip_fails_the_run_when_it_is_required(pytester: pytest.Pytester) -> None:
    result = run(pytester, "import pytest\ndef test_a(): pytest.skip('no browser')", frozenset({"browser"}))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*skipped although REQUIRE names browser"])


def test_an_expected_failure_is_no_skip(pytester: pytest.Pytester) -> None:
    result = run(pytester, "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_a(): assert 0")
    assert result.ret == pytest.ExitCode.OK


def test_need_answers_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "SKIPS", (Skip("thing", "no thing", lambda: "/bin/thing"),))
    assert need("thing") == "/bin/thing"


def test_need_skips_for_the_listed_reason_when_nothing_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "SKIPS", (Skip("thing", "no thing", lambda: None),))
    monkeypatch.delenv("REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no thing"):
        need("thing")


def test_need_fails_when_nothing_was_found_and_the_run_requires_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skips, "SKIPS", (Skip("thing", "no thing", lambda: None),))
    monkeypatch.setenv("REQUIRE", "thing")
    with pytest.raises(pytest.fail.Exception, match="REQUIRE names thing"):
        need("thing")


def test_every_name_that_ci_requires_is_known() -> None:
    assert required("chromium, node,postgres,mariadb,moto,azurite") == {
        "chromium",
        "node",
        "postgres",
        "mariadb",
        "moto",
        "azurite",
    }


def test_an_unknown_requirement_is_refused() -> None:
    with pytest.raises(pytest.UsageError, match="REQUIRE names netscape"):
        required("netscape")


def test_reasons_and_ids_are_listed_once() -> None:
    assert len({skip.id for skip in SKIPS}) == len({skip.reason for skip in SKIPS}) == len(SKIPS)
