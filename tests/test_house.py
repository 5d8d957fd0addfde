"""The house itself: floors, what a plain import costs and brings, what the README promises, versions that agree."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minnet

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for path in (ROOT / "minnet").rglob("*.py"))


def run_python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_floors_hold():
    command = shutil.which("lint-imports", path=os.path.dirname(sys.executable)) or "lint-imports"
    result = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "0 broken" in result.stdout


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_a_few_modules_alone_call_kernels():
    kernels = {f"minnet.{path.stem}" for path in (ROOT / "minnet").glob("*.pyx")} - {"minnet._simd"}
    users = {path for path in MODULES if kernels & set(imports_of(path))}
    assert len(kernels) >= 4
    assert {path.parent.name if path.parent.name == "functional" else path.name for path in users} == {
        "_plain.py",
        "functional",
        "model.py",
        "optimizers.py",
        "neurons.py",
        "population.py",
    }


def test_functions_are_short_and_take_few_arguments():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                assert length <= 40, f"{path.name}: {node.name} has {length} lines"
                assert len(node.args.args) <= 8, f"{path.name}: {node.name}"


def test_plain_import_brings_no_optional_library():
    heavy = ["matplotlib", "tqdm", "scipy", "sklearn", "urllib.request", "minnet.lab", "minnet.datasets", "argparse"]
    loaded = run_python(f"import sys, minnet; print([m for m in {heavy} if m in sys.modules])")
    assert loaded.strip() == "[]"


def test_version_is_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert minnet.__version__ == project["version"]
    assert project["dependencies"] == ["numpy>=2.0"]
    assert f"## {minnet.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def readme_blocks(language):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_readme_example_prints_what_it_says():
    code, printed = readme_blocks("python")[0], readme_blocks("text")[0]
    assert run_python(code) == printed
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_readme_table_is_the_commands_own(tmp_path):
    text = run_python("from minnet.cli import main; main(['saturation', '--no-plot'])", cwd=tmp_path)
    assert readme_blocks("text")[1] in text


def test_readme_has_the_two_commands():
    commands = [block.strip() for block in readme_blocks("bash")]
    assert [command.split(" && ")[0] for command in commands] == ["python3 -m venv .venv"] * 2
    assert commands[0].endswith("minnet saturation")
    assert commands[1].endswith("-m pytest")


def test_readme_links_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = set(re.findall(r"\]\(([^)#]+)\)", text))
    assert len(links) > 10
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


@pytest.mark.parametrize("name", ["digits", "xor", "own_layer_and_loss"])
def test_example_runs(name, tmp_path):
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / f"{name}.py")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_docs_list_every_public_name():
    text = (ROOT / "docs" / "api.rst").read_text(encoding="utf-8")
    modules = ["datasets", "functional", "information", "initializers", "lab", "metrics", "schedules"]
    public = {f"{module}.{name}" for module in modules for name in getattr(minnet, module).__all__}
    public |= set(minnet.__all__).difference(modules)
    assert set(re.findall(r"^   ([\w.]+)$", text, flags=re.MULTILINE)) == public - {"lab.LOSSES"}
