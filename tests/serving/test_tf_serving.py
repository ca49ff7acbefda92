"""The deployment files of TF Serving agree with each other and with what the export writes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from kdsr_tf.config.serving_sections import ServeConfig
from kdsr_tf.export.deployment import configuration_files

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "serving" / "tf_serving"
NAME = ServeConfig().model_name

FLAGS = {
    # tensorflow/serving, tensorflow_serving/model_servers/main.cc
    "allow_version_labels_for_unavailable_models",
    "batching_parameters_file",
    "enable_batching",
    "file_system_poll_wait_seconds",
    "model_config_file",
    "model_config_file_poll_wait_seconds",
    "monitoring_config_file",
    "port",
    "rest_api_port",
    "ssl_config_file",
}


@pytest.fixture(scope="module")
def compose():
    text = (FOLDER / "docker-compose.yml").read_text()
    # As docker does: ${NAME:-default}, ${NAME:?message}.
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", r"/\1", text)
    return yaml.safe_load(text)["services"]


def manifests(variant, tmp_path):
    folder = tmp_path / "kubernetes"
    shutil.copytree(FOLDER / "kubernetes", folder)
    config = folder / "base" / "config"
    config.mkdir()
    for name, text in configuration_files(NAME).items():
        (config / name).write_text(text)
    made = subprocess.run(
        ["kubectl", "kustomize", str(folder / variant)], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return {document["kind"]: document for document in yaml.safe_load_all(made.stdout)}


def check_command(command):
    """Only flags that TF Serving has, and files where the export says they are."""
    given = dict(flag.removeprefix("--").split("=", 1) for flag in command)
    assert set(given) <= FLAGS
    for name, text in configuration_files(NAME).items():
        if name == "request_log.config":
            continue
        [(flag, path)] = re.findall(r"--(\w+_file)=(\S+)", text)
        assert given[flag] == path


@pytest.mark.parametrize("variant", ["exact", "scann"])
def test_compose(compose, variant):
    service = compose[variant]
    check_command(service["command"])
    mounted = dict(volume.removesuffix(":ro").split(":") for volume in service["volumes"])
    assert mounted == {
        f"/SERVING_MODEL/{variant}": f"/models/{NAME}",
        "/SERVING_MODEL/tf_serving": f"/models/{NAME}-config",
    }
    assert f"/v1/models/{NAME}" in service["healthcheck"]["test"][-1]
    if variant == "scann":
        assert (FOLDER / service["build"]["dockerfile"]).is_file()
    tag = service["image"].partition(":")[2]
    assert f"ARG TF_SERVING_VERSION={tag}" in (FOLDER / "Dockerfile.scann").read_text()


@pytest.mark.parametrize("path", sorted((FOLDER / "kubernetes").rglob("*.yaml")), ids=str)
def test_yaml_parses(path):
    assert all(document["apiVersion"] for document in yaml.safe_load_all(path.read_text()))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
@pytest.mark.parametrize(("variant", "folder"), [("exact", "base"), ("scann", "scann")])
def test_kustomize(variant, folder, tmp_path):
    found = manifests(folder, tmp_path)
    pod = found["Deployment"]["spec"]["template"]
    [container] = pod["spec"]["containers"]
    check_command(container["args"])
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    assert mounts[f"/models/{NAME}"]["subPath"] == variant
    [config] = (v for v in pod["spec"]["volumes"] if v["name"] == "config")
    assert config["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"]
    data = found["ConfigMap"]["data"]
    assert all(configuration_files(NAME)[name] == text for name, text in data.items())
    assert {
        Path(arg.partition("=")[2]).name for arg in container["args"] if "_file=" in arg
    } == set(data)
    for probe in ("startupProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] == f"/v1/models/{NAME}"
    labels = pod["metadata"]["labels"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert found[kind]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in found["Service"]["spec"]["ports"]} == ports
    name, _, tag = container["image"].partition(":")
    assert name == {"exact": "tensorflow/serving", "scann": "kdsr/tf-serving-scann"}[variant]
    assert f"ARG TF_SERVING_VERSION={tag}" in (FOLDER / "Dockerfile.scann").read_text()
