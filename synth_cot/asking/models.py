"""What answers a teacher's requests: an OpenAI-compatible endpoint, or a local model through transformers (GGUF included)."""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path
from typing import Any

from manifests.chat import Chat, Reply, api_key, data_url
from manifests.errors import UsageError
from manifests.fingerprint import unit_hash
from manifests.synth_spec import TeacherSpec
from synth_cot.asking.asker import Model
from synth_cot.asking.pictures import Shown
from synth_cot.asking.request import Request


def model_of(spec: TeacherSpec, shown: Shown) -> Model:
    """What answers for a teacher.

    Raises:
        UsageError: its key is not set, or its model cannot be loaded.
    """
    return Endpoint(spec, shown) if spec.endpoint else _local(spec)


@cache
def _local(spec: TeacherSpec) -> Local:
    """A local model, loaded once a process."""
    return Local(spec)


class Endpoint:
    """A model behind an endpoint; see `synth_cot.asking.asker.Model`. Safe to call from many threads."""

    def __init__(self, spec: TeacherSpec, shown: Shown) -> None:
        self.spec, self.shown = spec, shown
        key = api_key(spec.api_key_env, f"synth.teachers.{spec.name}.api_key_env")
        self.chat = Chat(endpoint=spec.endpoint, key=key, timeout_s=spec.timeout_s, connections=spec.concurrency)

    def __call__(self, request: Request) -> Reply:
        return self.chat.ask(body(request, self.shown))


def body(request: Request, shown: Shown) -> dict[str, Any]:
    """The body of a chat completion. A message without pictures is plain text: every server reads that."""
    content: str | list[dict[str, Any]]
    if any(piece.media_id for piece in request.pieces):
        content = [
            {"type": "image_url", "image_url": {"url": data_url(shown.picture(piece), request.pixels_max)}}
            if piece.media_id
            else {"type": "text", "text": piece.text}
            for piece in request.pieces
        ]
    else:
        content = "".join(piece.text for piece in request.pieces)
    value: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": "system", "content": request.system}, {"role": "user", "content": content}],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.temperature:
        # Servers that know seeds give another response to each sample, and the same when asked anew.
        value |= {"top_p": request.top_p, "seed": int(unit_hash("sample", request.request_id) * 2**31)}
    return value


class Local:
    """A model of transformers in a folder, or a ``.gguf`` file; text only, one response at a time.

    Raises:
        UsageError: transformers, or the model, is not there.
    """

    def __init__(self, spec: TeacherSpec) -> None:
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ImportError:
            raise UsageError(f"teacher {spec.name} is a local model: install transformers (and gguf for .gguf files)") from None
        path = Path(spec.model)
        if not path.exists():
            raise UsageError(f"teacher {spec.name}: there is no model at {spec.model}")
        place: dict[str, Any] = {"gguf_file": path.name} if path.is_file() else {}
        folder = path.parent if path.is_file() else path
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, **place)
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, **place)
        self.lock = threading.Lock()

    def __call__(self, request: Request) -> Reply:
        import torch

        if any(piece.media_id for piece in request.pieces):
            return Reply(error="it shows pictures, and local models only read text: route the task to an endpoint")
        turns = [
            {"role": "system", "content": request.system},
            {"role": "user", "content": "".join(piece.text for piece in request.pieces)},
        ]
        with self.lock, torch.inference_mode():
            torch.manual_seed(int(unit_hash("sample", request.request_id) * 2**31))
            tokens = self.tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            sampling = {"do_sample": True, "temperature": request.temperature, "top_p": request.top_p}
            made = self.model.generate(
                **tokens,
                max_new_tokens=request.max_tokens,
                pad_token_id=self.tokenizer.eos_token_id,
                **(sampling if request.temperature else {"do_sample": False}),
            )[0]
        start = tokens["input_ids"].shape[1]
        text = self.tokenizer.decode(made[start:], skip_special_tokens=True).strip()
        usage = {"prompt_tokens": int(start), "completion_tokens": len(made) - int(start)}
        cut = len(made) - start >= request.max_tokens and int(made[-1]) != self.tokenizer.eos_token_id
        return Reply(text=text, error=None if text else "the response is empty", cut=bool(cut), usage=usage)
