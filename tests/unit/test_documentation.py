"""The documentation and the program name the same things; neither may know one more than the other."""

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from src.api.app import create_app
from src.api.metrics import exported_name
from src.config import Settings, load_settings, setting_names
from src.models.clock import ManualClock
from src.models.metrics import ALL_METRICS, Metrics
from src.models.writes import Collection

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
# Handed out by the framework itself and not a route of ours.
IMPLICIT_METHODS = {"HEAD", "OPTIONS"}


def table_rows(page: str) -> dict[str, list[str]]:
    """Cells of every table row whose first cell is one name in backticks, by that name."""
    rows = {}
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"\| `([^`]+)` \| (.*) \|", line)
        if match:
            rows[match[1]] = [cell.strip() for cell in match[2].split(" | ")]
    return rows


def env_file() -> list[tuple[str, str, str]]:
    """(name, value, comment line above) of every setting in ``.env``."""
    found, comment = [], ""
    for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            comment = line.removeprefix("#").strip()
        elif "=" in line:
            name, _, value = line.partition("=")
            found.append((name, value, comment))
            comment = ""
    return found


def settings_without(name: str, value: str) -> object:
    return getattr(load_settings(Path("/nonexistent"), {name: value}), name.lower())


class TestSettings:
    def test_env_lists_all_settings_in_their_order(self):
        assert tuple(name for name, _, _ in env_file()) == setting_names()

    def test_env_holds_the_defaults(self):
        defaults = load_settings(Path("/nonexistent"), {})
        for name, value, _ in env_file():
            assert settings_without(name, value) == getattr(defaults, name.lower()), name

    def test_env_is_accepted_as_it_is_and_holds_no_secret(self):
        settings = load_settings(ROOT, {}) if not (ROOT / ".env.local").exists() else None
        written = {name: value for name, value, _ in env_file()}
        assert written["API_TOKEN"] == written["MONGODB_URI"] == ""
        assert settings is None or settings.notices == ()

    def test_env_explains_each_setting_with_its_description(self):
        for name, _, comment in env_file():
            assert comment == Settings.model_fields[name.lower()].description, name

    def test_page_lists_all_settings_in_their_order(self):
        assert tuple(name for name in table_rows("settings.md") if name.isupper()) == setting_names()

    def test_page_has_the_defaults_and_meanings(self):
        rows = table_rows("settings.md")
        for name, value, comment in env_file():
            default, meaning = rows[name]
            assert default == (f"`{value}`" if value else "empty"), name
            assert meaning == comment, name


class TestMetrics:
    def test_page_lists_all_metrics(self):
        rows = {name: cells for name, cells in table_rows("metrics.md").items() if name.startswith("collector_")}
        assert list(rows) == [exported_name(metric) for metric in ALL_METRICS]

    def test_page_has_kinds_labels_and_meanings(self):
        rows = table_rows("metrics.md")
        for metric in ALL_METRICS:
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "\u2013"
            assert rows[exported_name(metric)] == [metric.kind, labels, metric.help]

    def test_expressions_use_metrics_that_exist(self):
        exported = {exported_name(metric) for metric in ALL_METRICS}
        used = set(re.findall(r"\bcollector_[a-z_]+", (DOCS / "metrics.md").read_text(encoding="utf-8")))
        assert used == exported

    def test_names_and_labels_are_valid_and_unique(self):
        names = [metric.name for metric in ALL_METRICS]
        assert len(set(names)) == len(names)
        for metric in ALL_METRICS:
            assert all(re.fullmatch(r"[a-z][a-z0-9_]*", text) for text in (metric.name, *metric.labels))
            assert metric.help.endswith(".")


@pytest.fixture(scope="module")
def app():
    return create_app(
        status=None,
        store=None,
        metrics=Metrics(),
        traders=None,
        token=None,
        allowed_origins=(),
        clock=ManualClock(),
        version="0",
    )


class TestEndpoints:
    def test_page_lists_all_routes(self, app):
        served = {
            f"{method} {re.sub(':path', '', route.path)}"
            for route in walk(app.routes)
            for method in route.methods - IMPLICIT_METHODS
        }
        text = (DOCS / "http.md").read_text(encoding="utf-8")
        rows = "\n".join(line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `"))
        documented = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]*)`", rows))
        assert documented == served

    def test_page_names_all_filters(self, app):
        rows = {
            match[1]: line
            for line in (DOCS / "http.md").read_text(encoding="utf-8").splitlines()
            if (match := re.match(r"\| `GET ([^`]+)` \|", line))
        }
        paged = {"limit", "cursor"}  # told once, in the section about lists
        for path, operations in app.openapi()["paths"].items():
            names = {p["name"] for p in operations.get("get", {}).get("parameters", []) if p["in"] == "query"}
            for name in names - paged:
                assert f"`{name}`" in rows[path], f"{path}: {name}"

    def test_every_route_is_explained(self, app):
        for route in walk(app.routes):
            if isinstance(route, APIRoute):
                assert (route.endpoint.__doc__ or "").strip(), route.path


class TestCollections:
    def test_page_has_a_heading_for_each_collection_and_no_other(self):
        text = (DOCS / "data-model.md").read_text(encoding="utf-8")
        headings = re.findall(r"^## ([a-z_]+(?:, [a-z_]+)*)$", text, flags=re.MULTILINE)
        named = [name for heading in headings for name in heading.split(", ")]
        assert sorted(named) == sorted(Collection)


def walk(routes):
    """All routes with methods, also inside included routers (whose routes carry their whole path)."""
    for route in routes:
        if getattr(route, "methods", None):
            yield route
        else:
            yield from walk(route.original_router.routes)
