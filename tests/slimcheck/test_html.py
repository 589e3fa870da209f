"""The page: self-contained, complete without JavaScript, safe with hostile names."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from slimcheck.report import Report
from slimcheck.report.html import document
from slimcheck.report.html_survey import REST, Scales, heat_map, layer_of, scales, sizes
from slimcheck.run import run
from slimspec.data import folder
from slimspec.golden.patch import apply

SHARD = "quant_model_weights-00001-of-00001.safetensors"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&.7.weight"
VOID = {"meta", "link", "img", "br", "input", "hr"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    target = tmp_path / "checkpoint"
    shutil.copytree(folder("golden") / "checkpoints" / "valid" / "w8a8-a1-fp16", target)
    return target


@pytest.fixture
def hostile(directory: Path) -> Path:
    """Wrong values, a stale config, and names and labels that try to become markup."""
    tensors = {name: array.copy() for name, array in load_file(directory / SHARD).items()}
    tensors["model.layers.1.mlp.up_proj.input_scale"][:] = np.nan
    tensors["model.layers.0.mlp.up_proj.input_scale"][:] = -1
    tensors[HOSTILE] = np.zeros(3, np.float16)
    save_file(tensors, directory / SHARD)
    description = json.loads((directory / "quant_model_description.json").read_text())
    description["model.norm.weight"] = "<b onmouseover=alert(3)>"
    (directory / "quant_model_description.json").write_text(json.dumps(description))
    config = json.loads((directory / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "<svg onload=alert(4)>"}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


class Page(HTMLParser):
    """Tags, attributes and text of a page; refuses tags that do not nest."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_names_of_the_checkpoint_never_become_markup(hostile: Path, lang: str) -> None:
    page = Page(document(run(hostile), lang))
    assert len(page.all("script")) == 1
    assert page.all("img") == []
    assert page.all("b")
    handlers = [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert handlers == []
    assert HOSTILE in page.text
    assert "<b onmouseover=alert(3)>" in page.text


def test_page_asks_for_nothing(hostile: Path) -> None:
    content = document(run(hostile))
    page = Page(content)
    for _, attributes in page.tags:
        assert not attributes.keys() & {"src", "srcset", "action", "style", "background"}
        assert (attributes.get("href") or "#").startswith("#")
    text = content.decode()
    assert "@import" not in text
    assert "url(" not in text
    (policy,) = (m["content"] for m in page.all("meta") if m.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_policy_names_the_script_and_style_by_hash(directory: Path) -> None:
    import base64
    import hashlib

    text = document(run(directory)).decode()
    for tag in ("script", "style"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in text


def test_page_has_every_finding_verdict_and_requirement(hostile: Path) -> None:
    report = run(hostile)
    page = Page(document(report))
    shown = [d for d in page.all("details") if d.get("class") == "finding"]
    assert len(shown) == sum(len(result.groups) for result in report.failed)
    for result in report.results:
        assert result.requirement.id in page.text
    for verdict in report.verdicts:
        assert verdict.consumer in page.text
    targets = {d["id"] for d in page.all("details") if "id" in d}
    assert {str(a["href"])[1:] for a in page.all("a")} <= targets


def test_clean_directory_says_so(directory: Path) -> None:
    report = run(directory, select=["DIR-*"])
    page = Page(document(report))
    assert "No findings." in page.text
    assert "CONFORMANT to profile A1" in page.text


def test_layout_level_shows_no_scales(directory: Path) -> None:
    text = Page(document(run(directory, level="layout"))).text
    assert "The scales are read at level values only." in text


def test_sizes_add_up_to_the_stored_bytes(directory: Path) -> None:
    report = run(directory)
    rows = sizes(report)
    assert sum(row.nbytes for row in rows) == report.nbytes
    assert sum(row.tensors for row in rows) == report.tensors
    for row in rows:
        assert sum(size for _, size in row.parts.values()) == row.nbytes
    quantized = next(row for row in rows if row.type == "W8A8")
    tensors = load_file(directory / SHARD)
    expected = sum(t.nbytes for name, t in tensors.items() if t.dtype == np.int8)
    assert quantized.parts["weight", "I8"][1] == expected


def test_scales_are_counted_by_power_of_two() -> None:
    values = [1.0, 1.5, 2.0, 0.75, 0.0, -0.0, -4.0, np.nan, np.inf, -np.inf, 2.0**-130]
    entry = Scales("T", "weight_scale")
    entry.add(np.array(values, np.float32).reshape(1, -1))
    assert {i - 127: int(n) for i, n in enumerate(entry.powers) if n} == {
        0: 2, 1: 1, -1: 1, 2: 1, -127: 1,
    }  # fmt: skip
    assert (entry.zeros, entry.negative, entry.bad, entry.elements) == (2, 2, 3, 11)
    assert (entry.smallest, entry.largest) == (2.0**-130, 4.0)


def test_deq_scale_is_decoded_by_bits(directory: Path) -> None:
    (entry,) = (e for e in scales(run(directory)) if e.suffix == "deq_scale")
    stored = [a for name, a in load_file(directory / SHARD).items() if name.endswith("deq_scale")]
    decoded = np.concatenate([a.astype(np.int32).view(np.float32).ravel() for a in stored])
    assert (entry.smallest, entry.largest) == (decoded.min(), decoded.max())
    assert entry.elements == decoded.size
    assert entry.powers.sum() == decoded.size


def test_scale_that_is_stored_twice_is_counted_once(directory: Path) -> None:
    """By the dtype of the copy that is read, the first, whatever the other is."""
    before = scales(run(directory))
    path = directory / "z.safetensors"
    for name, array in load_file(directory / SHARD).items():
        if name.endswith((".deq_scale", ".weight_scale")):
            save_file({name: np.ones(array.shape, np.uint8)}, path)
            found = scales(run(directory))
            assert [(e.tensors, e.elements) for e in found] == [
                (e.tensors, e.elements) for e in before
            ]


def test_unreadable_scale_is_counted_not_skipped(directory: Path) -> None:
    report = run(directory, level="layout")
    path = directory / SHARD
    path.write_bytes(path.read_bytes()[:100])
    found = scales(report)
    assert sum(entry.unreadable for entry in found) > 0
    count = sum("scale" in name.rpartition(".")[2] for name in report.checkpoint.table.names)
    assert sum(entry.unreadable + entry.tensors for entry in found) == count


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("model.layers.12.mlp.experts.3.up_proj.weight", 12),
        ("3.weight", 3),
        ("lm_head.weight", REST),
        ("h2.weight", REST),
        ("a.7", REST),
    ],
)
def test_layer_is_the_first_number_of_a_name(name: str, layer: int) -> None:
    assert layer_of(name) == layer


def test_heat_map_counts_each_tensor_of_a_finding(directory: Path) -> None:
    name = "model.layers.{}.mlp.up_proj.input_offset"
    patch = [
        {"op": "tensor-values", "file": SHARD, "name": name.format(i), "at": 0, "value": 0.5}
        for i in (0, 1)
    ]
    apply([*patch, {"op": "delete", "file": "tokenizer_config.json"}], directory)
    heat = heat_map(run(directory))
    assert heat.columns == [(0, 0), (1, 1), (REST, REST)]
    rows = {key: (severity, counts) for key, severity, counts in heat.rows}
    assert rows["W8A8-006"] == ("ERROR", [1, 1, 0])
    assert rows["DIR-012"][1] == [0, 0, 1]


def test_heat_map_of_many_layers_merges_neighbours(tmp_path: Path, builders: Any) -> None:
    draft = builders.make("A1", "W8A8_DYNAMIC", "BF16")
    for layer in range(2, 200):
        draft.add(f"model.layers.{layer}.mlp.gate.weight", np.zeros((2, 2), np.float32), "FLOAT")
        del draft.description[f"model.layers.{layer}.mlp.gate.weight"]
    heat = heat_map(run(draft.write(tmp_path / "many")))
    assert len(heat.columns) <= 65
    assert heat.columns[0] == (0, 3)
    assert heat.columns[-2] == (196, 199)
    (counts,) = (counts for key, _, counts in heat.rows if key == "DESC-020")
    assert sum(counts) == 198


# --- in a real browser -------------------------------------------------------


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in paths:
        pytest.skip("no chromium with chromedriver found")
    drivers: list[Any] = []

    def start(page: Path, *, script: bool = True, dark: bool = False) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = paths[0]
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
            options.add_argument(argument)
        if not script:
            options.add_argument("--blink-settings=scriptEnabled=false")
        options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
        service = webdriver.ChromeService(executable_path=paths[1])
        driver = webdriver.Chrome(options=options, service=service)
        drivers.append(driver)
        driver.set_window_size(1240, 1800)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        driver.get(page.as_uri())
        return driver

    yield start
    for driver in drivers:
        driver.quit()


@pytest.fixture
def page(hostile: Path, tmp_path: Path) -> tuple[Path, Report]:
    report = run(hostile)
    path = tmp_path / "report.html"
    path.write_bytes(document(report))
    return path, report


def requests(driver: Any) -> list[str]:
    """Addresses that the browser asked for."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [e for e in events if e["method"] == "Network.requestWillBeSent"]
    return [event["params"]["request"]["url"] for event in sent]


def visible_findings(driver: Any) -> list[str]:
    found = driver.find_elements("css selector", ".finding")
    return [f.find_element("tag name", "summary").text for f in found if f.is_displayed()]


@pytest.mark.slow
def test_browser_runs_the_page_without_error_or_request(
    browser: Callable[..., Any], page: tuple[Path, Report]
) -> None:
    driver = browser(page[0])
    assert requests(driver) == [page[0].as_uri()]
    assert [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert driver.title == "slimcheck: checkpoint"


@pytest.mark.slow
def test_search_and_severity_filter_the_findings(
    browser: Callable[..., Any], page: tuple[Path, Report]
) -> None:
    driver = browser(page[0])
    everything = visible_findings(driver)
    assert len(everything) == sum(len(r.groups) for r in page[1].failed)
    search = driver.find_element("id", "search")
    search.send_keys("cfg-011")
    assert [line for line in visible_findings(driver) if "CFG-011" not in line] == []
    assert len(visible_findings(driver)) == 1
    search.clear()
    search.send_keys("no such thing")
    assert visible_findings(driver) == []
    search.clear()
    search.send_keys(" ")
    assert visible_findings(driver) == everything
    driver.find_element("css selector", ".tools input[value=ERROR]").click()
    assert 0 < len(visible_findings(driver)) < len(everything)
    assert not any(line.startswith("ERROR") for line in visible_findings(driver))


@pytest.mark.slow
def test_heat_map_leads_to_the_finding(
    browser: Callable[..., Any], page: tuple[Path, Report]
) -> None:
    driver = browser(page[0])
    link = driver.find_element("css selector", ".heat a[href]")
    target = driver.find_element("id", link.get_attribute("href").partition("#")[2])
    link.click()
    assert target.get_attribute("open") is not None


@pytest.mark.slow
def test_page_reads_without_script(browser: Callable[..., Any], page: tuple[Path, Report]) -> None:
    driver = browser(page[0], script=False)
    assert len(visible_findings(driver)) == sum(len(r.groups) for r in page[1].failed)
    assert not driver.find_element("id", "search").is_displayed()
    assert driver.find_element("css selector", ".heat").is_displayed()
    assert len(driver.find_elements("css selector", "svg")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out_in_light_and_dark(
    browser: Callable[..., Any], page: tuple[Path, Report], dark: bool
) -> None:
    driver = browser(page[0], dark=dark)

    def luminance(element: Any, part: str) -> float:
        numbers = re.findall(r"[\d.]+", element.value_of_css_property(part))[:3]
        linear = [((float(c) / 255 + 0.055) / 1.055) ** 2.4 for c in numbers]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    body = driver.find_element("tag name", "body")
    assert (luminance(body, "background-color") < 0.1) is dark
    for selector in ("body", ".badge.ERROR", ".badge.WARN", ".heat td.ERROR", ".finding"):
        element = driver.find_elements("css selector", selector)[0]
        pair = sorted([luminance(element, "color"), luminance(element, "background-color")])
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, selector  # WCAG 2 AA


@pytest.mark.slow
def test_page_fits_a_phone(browser: Callable[..., Any], page: tuple[Path, Report]) -> None:
    driver = browser(page[0])
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    width = driver.execute_script("return document.documentElement.scrollWidth")
    assert width <= 400
