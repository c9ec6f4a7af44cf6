"""What every test shares: hypothesis without a clock, and one line on what was skipped."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "p2pnode",
    deadline=None,  # two busy cores say nothing about the code
    print_blob=True,  # a red run prints the line that reproduces it
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("p2pnode")


def pytest_terminal_summary(terminalreporter):  # type: ignore[no-untyped-def]
    """Say once why tests were skipped."""
    reasons: dict[str, int] = {}
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        reasons[reason] = reasons.get(reason, 0) + 1
    for reason, count in reasons.items():
        terminalreporter.write_line(f"{count} skipped: {reason.removeprefix('Skipped: ')}")
