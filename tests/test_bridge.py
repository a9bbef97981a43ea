"""The bridge without ComfyUI: which files a workflow may read, where things live, and that it is the only door."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest
import torch
from personal_restore.lib import bridge
from personal_restore.lib.standin import host
from personal_restore.lib.vocabulary import Place, UserError

PACK = Path(bridge.__file__).parent.parent
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "server", "nodes", "execution"}


@pytest.fixture
def folders(tmp_path, monkeypatch) -> host.Folders:
    """Input and output in a folder of their own, with a file in each and a secret beside them."""
    made = host.Folders(tmp_path / "input", tmp_path / "output")
    for folder in (made.input, made.output, tmp_path / "secret"):
        (folder / "sub folder").mkdir(parents=True)
        (folder / "sub folder" / "phötö.jpg").write_bytes(b"x")
    monkeypatch.setattr(host, "folders", made)
    return made


def imported(path: Path) -> set[str]:
    """The first names of all absolute imports in a file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((PACK / folder).glob("**/*.py" if folder else "*.py"))]


def test_comfyui_is_not_taken_to_be_there():
    assert not bridge.IN_COMFYUI and "folder_paths" not in sys.modules


def test_the_bridge_alone_imports_comfyui():
    rooms = [path.name for path in PACK.iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    guilty = {path.name: found for path in sources("", *rooms) if (found := imported(path) & COMFYUI)}
    assert guilty == {"bridge.py": {"comfy", "comfy_api", "comfy_execution", "folder_paths", "server"}}


def test_a_path_is_relative_to_the_input_folder(folders):
    assert bridge.resolve_input("sub folder/phötö.jpg") == folders.input / "sub folder" / "phötö.jpg"
    assert bridge.resolve_input("sub folder") == folders.input / "sub folder"


def test_a_path_may_name_the_folder_that_it_is_relative_to(folders):
    assert bridge.resolve_input("sub folder/phötö.jpg [output]") == folders.output / "sub folder" / "phötö.jpg"
    assert bridge.resolve_input("sub folder/phötö.jpg [input]") == folders.input / "sub folder" / "phötö.jpg"


def test_an_absolute_path_inside_the_folders_is_taken(folders):
    path = folders.output / "sub folder" / "phötö.jpg"
    assert bridge.resolve_input(path) == path


@pytest.mark.parametrize(
    "path",
    ["..", "../secret/sub folder/phötö.jpg", "../secret [output]", "../input2", "sub folder/../../secret", "/etc"],
)
def test_a_path_elsewhere_is_refused(folders, path):
    (folders.input.parent / "input2").mkdir()
    with pytest.raises(UserError, match="lies outside"):
        bridge.resolve_input(path)


def test_a_link_that_leads_elsewhere_is_refused(folders):
    (folders.input / "album").symlink_to(folders.input.parent / "secret")
    for path in ("album", "album/sub folder/phötö.jpg"):
        with pytest.raises(UserError, match="lies outside"):
            bridge.resolve_input(path)


def test_a_link_inside_the_folders_is_followed(folders):
    (folders.input / "album").symlink_to(folders.input / "sub folder")
    assert bridge.resolve_input("album") == folders.input / "sub folder"


def test_an_input_folder_that_is_a_link_itself_is_good(folders, tmp_path):
    (tmp_path / "link").symlink_to(folders.input)
    folders.input = tmp_path / "link"
    assert bridge.resolve_input("sub folder").name == "sub folder"


def test_what_lies_elsewhere_is_refused_whether_it_exists_or_not(folders):
    messages = []
    for path in ("../secret", "../nothing"):
        with pytest.raises(UserError) as error:
            bridge.resolve_input(path)
        messages.append(str(error.value).replace(path, ""))
    assert messages[0] == messages[1]


def test_a_missing_file_is_named(folders):
    with pytest.raises(UserError, match="There is no 'sub folder/foto.jpg' in"):
        bridge.resolve_input("sub folder/foto.jpg")


@pytest.mark.parametrize("path", ["a\0b", "a" * 5000])
def test_what_is_no_path_is_refused(folders, path):
    with pytest.raises(UserError, match="cannot be read as a path"):
        bridge.resolve_input(path)


def test_a_share_is_refused_without_a_look_at_it(folders, monkeypatch):
    looked, resolve = [], Path.resolve
    monkeypatch.setattr(Path, "resolve", lambda self, **more: (looked.append(str(self)), resolve(self, **more))[1])
    for path in ("//server/share/a.png", "//server/share/a.png [output]"):
        with pytest.raises(UserError, match="lies outside"):
            bridge.resolve_input(path)
    assert not any("server" in path for path in looked)


def test_no_message_about_a_path_names_a_folder_of_the_machine(folders):
    for path in (
        "nothing.png",
        "/etc/passwd",
        "../secret",
        "a\0b",
        f"{folders.input}/gone.png",
        "~/x",
        "C:\\Users\\me\\x.png",
    ):
        with pytest.raises(UserError) as error:
            bridge.resolve_input(path)
        said = str(error.value)
        assert str(folders.input.parent) not in said and "/etc" not in said and "Users" not in said


def test_a_folder_named_on_the_command_line_is_open(folders):
    secret = folders.input.parent / "secret"
    assert host.allow_folder(secret) == secret
    assert bridge.resolve_input(secret / "sub folder" / "phötö.jpg").name == "phötö.jpg"
    with pytest.raises(UserError, match="lies outside"):
        bridge.resolve_input(secret.parent)


def test_a_file_named_on_the_command_line_opens_that_file_only(folders):
    photo = folders.input.parent / "secret" / "sub folder" / "phötö.jpg"
    (photo.parent / "other.jpg").write_bytes(b"x")
    host.allow_folder(photo)
    assert bridge.resolve_input(photo) == photo
    with pytest.raises(UserError, match="lies outside"):
        bridge.resolve_input(photo.parent / "other.jpg")


def test_weights_live_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("PR_MODELS_DIR", str(tmp_path))
    assert bridge.models_folder() == tmp_path


def test_weights_are_shared_with_the_comfyui_that_the_pack_is_installed_in(monkeypatch, tmp_path):
    monkeypatch.delenv("PR_MODELS_DIR", raising=False)
    monkeypatch.setattr(host, "PACK", tmp_path / "ComfyUI" / "custom_nodes" / "pack")
    assert bridge.models_folder() == tmp_path / "ComfyUI" / "models" / "personal_restore"


def test_a_kept_network_is_given_on_the_device_and_without_gradients():
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), torch.nn.Dropout())
    loaded = bridge.keep(network)(memory_required=10**9)
    assert loaded is network and not network.training
    assert all(weight.device.type == bridge.device().type for weight in network.parameters())
    assert not any(weight.requires_grad for weight in network.parameters())


def test_a_kept_upscaler_is_given_as_itself():
    class Descriptor:
        model = torch.nn.Conv2d(3, 3, 1)

    upscaler = Descriptor()
    assert bridge.keep_upscaler(upscaler)() is upscaler


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_without_comfyui_half_precision_is_for_cuda(monkeypatch, kind):
    monkeypatch.setattr(host, "device", lambda: torch.device(kind))
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    for part, half in (("unet", torch.float16), ("vae", torch.bfloat16)):
        expected = half if kind == "cuda" else torch.float32
        assert bridge.place(part, half) == Place(torch.device(kind), expected)
    autocast = torch.float32 if kind == "mps" else torch.bfloat16
    assert bridge.place("training", torch.bfloat16) == Place(torch.device(kind), autocast)


@pytest.mark.parametrize("able", [True, False])
def test_embedded_networks_and_vaes_are_in_half_precision_where_the_cpu_has_it(monkeypatch, able):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able, raising=False)
    for kind in ("cpu", "cuda", "mps"):
        monkeypatch.setattr(host, "device", lambda kind=kind: torch.device(kind))
        expected = torch.bfloat16 if able and kind == "cpu" else torch.float32
        assert bridge.place("embedded", torch.bfloat16) == Place(torch.device(kind), expected)
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    assert bridge.place("vae", torch.bfloat16).dtype == (torch.bfloat16 if able else torch.float32)
    assert bridge.place("unet", torch.float16).dtype == torch.float32


def test_an_old_torch_does_not_say_what_the_cpu_has(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    assert bridge.place("embedded", torch.bfloat16).dtype == torch.float32


def test_nobody_but_the_bridge_chooses_a_device():
    """Who asks torch for CUDA, or whether there is some, ignores what the user of ComfyUI has chosen."""
    asks = re.compile(r"""cuda\.is_available|[("' ]cuda["')]""")
    folders = sources("lib", "models", "nodes", "training")
    guilty = {path.relative_to(PACK).as_posix() for path in folders if asks.search(path.read_text("utf-8"))}
    assert guilty == {"lib/bridge.py", "lib/standin/host.py", "training/personas/trainer.py"}
