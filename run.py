"""Bootstrap: ``python run.py demo`` on a machine with nothing but Python 3.11 or newer.

Makes ``.venv`` beside this file, installs what is needed there, and hands the command line on to ``cli/main.py``.
Only the standard library is used here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# The tested combination. Installed only if torch is absent, in one resolver call with everything else.
TORCH = ("torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0")


def load_package():
    """Imports this folder, whatever its name, as the package ``personal_restore``."""
    if "personal_restore" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "personal_restore", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
        )
        module = importlib.util.module_from_spec(spec)
        sys.modules["personal_restore"] = module
        spec.loader.exec_module(module)
    return sys.modules["personal_restore"]


# Threads that wait for each other sleep instead of spinning, so that a busy machine costs only its share of the time. Read when
# torch is imported; results do not depend on it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What every command may need of the extras in pyproject.toml, and what else two of them do.
EXTRAS = ("identity", "insightface", "segmentation", "diffusion", "training", "upscale", "download", "servers")
MORE = {"test": ("test", "dev"), "check": ("dev",), "fuzz": ("test",)}


def wanted(command: str) -> list[str]:
    """pip's arguments for a command: the requirements, the extras and, for tests, the requirements of an available
    ComfyUI."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [one for extra in (*EXTRAS, *MORE.get(command, ())) for one in extras[extra]]
    arguments = ["-r", str(ROOT / "requirements.txt"), *dict.fromkeys(named)]
    if command == "test":
        comfyui = Path(os.environ.get("COMFYUI_PATH") or Path.home() / "comfy" / "ComfyUI")
        if (comfyui / "requirements.txt").is_file():
            arguments += ["-r", str(comfyui / "requirements.txt")]
    return arguments


def install(command: str) -> None:
    """Creates the environment and installs what the command needs, unless a stamp says that it is already installed."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this file is what tells the user)
        sys.exit(f"Python 3.11 or newer is needed, but this is {sys.version.split()[0]}.")
    arguments = wanted(command)
    files = [Path(text).read_bytes() for flag, text in zip(arguments, arguments[1:], strict=False) if flag == "-r"]
    stamp = hashlib.sha256(repr((sys.version, arguments, files)).encode()).hexdigest()
    stamps = ENVIRONMENT / "installed.txt"
    if stamps.is_file() and stamp in stamps.read_text().split():
        return
    if not PYTHON.is_file():
        print(f"Making {ENVIRONMENT} ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
    has_torch = subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode == 0
    print("Installing requirements (a few gigabytes the first time) ...", flush=True)
    done = subprocess.run([PYTHON, "-m", "pip", "install", "-q", *arguments, *([] if has_torch else TORCH)])
    if done.returncode:
        sys.exit(
            "pip could not install the requirements (see above). Fix the problem and run the command again. You can "
            f"also delete {ENVIRONMENT}."
        )
    with stamps.open("a") as lines:
        lines.write(stamp + "\n")


def main() -> int:
    if len(sys.argv) == 1:
        print(
            "Say what to do, for example: python run.py demo. The README lists the commands, and --help does once packages are installed."
        )
        return 2
    command = sys.argv[1]
    if Path(sys.prefix).resolve() != ENVIRONMENT.resolve():
        install(command)
        return subprocess.run([PYTHON, str(ROOT / "run.py"), *sys.argv[1:]]).returncode
    if command == "test":
        # Several processes with a thread each are faster than one with several.
        threads = {"OMP_NUM_THREADS": "1", **os.environ}
        several = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadgroup"]
        return subprocess.run([PYTHON, "-m", "pytest", *several, *sys.argv[2:]], cwd=ROOT, env=threads).returncode
    if command in ("check", "fuzz"):
        tool = ROOT / "cli" / "tools" / f"{command}.py"
        return subprocess.run([PYTHON, str(tool), *sys.argv[2:]], cwd=ROOT).returncode
    load_package()
    from personal_restore.cli.main import main as run_command

    return run_command(sys.argv[1:])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
elif __name__ == "__mp_main__":
    load_package()  # a spawned worker process, which must find the functions that it receives
