"""Teaches a text encoder the shop's own texts: the top layers in full, or by peft (LoRA, AdaLoRA; merged at the end).

The result is a folder of transformers weights. A run that was cut goes on from its checkpoint and ends with the same weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from endcap.errors import ConfigError, TrainingError
from endcap.models.text import pretrained
from endcap.models.text.encoder import normalise
from endcap.progress import Progress, silent
from endcap.training.text.checkpoint import TextCheckpoint
from endcap.training.text.objectives import AdaptOptions, Ints, Lessons

logger = logging.getLogger(__name__)
WARM_UP = 0.1  # of the steps
MAX_NORM = 1.0
WEIGHT_DECAY = 0.01
LORA_DROPOUT = 0.05


def adapt_encoder(
    model: str,
    texts: list[str],
    pairs_P2: Ints,
    options: AdaptOptions,
    target: Path,
    checkpoint_path: Path | None = None,
    progress: Progress = silent,
) -> list[float]:
    """Write the adapted encoder to `target`; returns the loss of each step.

    Raises:
        ConfigError: the model cannot be loaded, or has not what the method needs.
        TrainingError: too few texts or pairs, a loss that is not finite, no memory, or no time left.
    """
    _check_lessons(texts, pairs_P2, options)
    torch.manual_seed(options.seed)
    tokenizer, network = _load(model, options)
    learner = _choose_parameters(network, options)
    tokens = tokenizer([normalise(text) for text in texts], truncation=True, max_length=options.max_tokens)["input_ids"]
    lessons = Lessons(tokens, pairs_P2, tokenizer, options)
    optimiser = torch.optim.AdamW(
        [one for one in learner.parameters() if one.requires_grad], options.learning_rate, weight_decay=WEIGHT_DECAY
    )
    checkpoint = TextCheckpoint(checkpoint_path, adaptation_key(model, texts, pairs_P2, options))
    curve = _learn(learner, optimiser, lessons, options, checkpoint, progress)
    merged = learner.merge_and_unload() if options.peft != "none" else learner
    body = merged.base_model if options.method == "mlm" else merged
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    body.half().save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return curve


def adaptation_key(model: str, texts: list[str], pairs_P2: Ints, options: AdaptOptions) -> str:
    """A digest of all that decides what comes of an adaptation.

    Raises:
        ConfigError: there is no such model.
    """
    facts = [pretrained.fingerprint(pretrained.resolve(model)), asdict(options), _digest(texts, pairs_P2)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _learn(
    learner: Any,
    optimiser: torch.optim.Optimizer,
    lessons: Lessons,
    options: AdaptOptions,
    checkpoint: TextCheckpoint,
    progress: Progress,
) -> list[float]:
    learner.train(options.method != "behaviour")  # the pairs differ already: dropout would only cost time there
    curve, begun = checkpoint.restore(learner, optimiser), time.monotonic()
    for step in range(len(curve), options.steps):
        torch.manual_seed(options.seed + step)  # dropout, the same in a resumed run
        for group in optimiser.param_groups:
            group["lr"] = options.learning_rate * _rate(step, options.steps)
        optimiser.zero_grad()
        curve.append(_step(learner, lessons, step))
        nn.utils.clip_grad_norm_([one for one in learner.parameters() if one.requires_grad], MAX_NORM)
        optimiser.step()
        if options.peft == "adalora":
            learner.base_model.update_and_allocate(step + 1)
        late = time.monotonic() - begun > options.max_seconds and step + 1 < options.steps
        if late or (step + 1) % options.checkpoint_steps == 0:
            checkpoint.save(learner, optimiser, curve)
            logger.info("adapt_step", extra={"step": step + 1, "loss": curve[-1]})
        progress(f"step {step + 1} of {options.steps}: loss {curve[-1]:.4f}")
        if late:
            raise TrainingError(
                f"time ran out after step {step + 1} of {options.steps}",
                field="adapt.max_seconds",
                value=options.max_seconds,
                action="Run the stage again: it goes on from its checkpoint; or lower adapt.steps, or raise adapt.max_seconds.",
            )
    return curve


def _step(learner: Any, lessons: Lessons, step: int) -> float:
    """Forward and backward; the loss.

    Raises:
        TrainingError: it is not finite, or memory ran out.
    """
    try:
        loss = lessons.loss(learner, step)
        loss.backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        size = lessons.options.batch_size
        raise TrainingError("out of memory", field="adapt.batch_size", value=size, action="Lower it.") from error
    if not torch.isfinite(loss):
        raise TrainingError(
            f"the loss is {loss.item()} at step {step + 1}; the last checkpoint is kept",
            field="adapt.learning_rate",
            value=lessons.options.learning_rate,
            action="Lower it.",
        )
    return float(loss.item())


def _rate(step: int, steps: int) -> float:
    """Up in a line over the first tenth, then down to nothing."""
    warm = max(1.0, WARM_UP * steps)
    return min((step + 1) / warm, max(0.0, (steps - step) / max(1.0, steps - warm)), 1.0)


def _check_lessons(texts: list[str], pairs_P2: Ints, options: AdaptOptions) -> None:
    found = len(pairs_P2) if options.method == "behaviour" else len(texts)
    if found < 2:
        what = "pairs of texts that a shopper took in a row" if options.method == "behaviour" else "texts"
        raise TrainingError(
            f"too few {what} to learn from", field="adapt.method", value=found, action="Set adapt.method: none."
        )


def _load(model: str, options: AdaptOptions) -> tuple[Any, Any]:
    """(tokenizer, network): with its head for masked words where that is the method."""
    tokenizer, network = pretrained.load(model)
    if getattr(network.config, "is_encoder_decoder", False):
        raise _cannot("an encoder-decoder cannot be adapted", model)
    if options.method != "mlm":
        return tokenizer, network
    from transformers import AutoModelForMaskedLM

    if tokenizer.mask_token_id is None:
        raise _cannot("its tokenizer has no mask token", model)
    try:
        return tokenizer, AutoModelForMaskedLM.from_pretrained(pretrained.resolve(model), dtype=torch.float32)
    except pretrained.BROKEN as error:
        raise _cannot(f"it has no head for masked words ({str(error).splitlines()[0]})", model) from error


def _cannot(why: str, model: str) -> ConfigError:
    return ConfigError(f"{model}: {why}", field="adapt.method", action="Choose another method, or none.")


def _choose_parameters(network: Any, options: AdaptOptions) -> Any:
    """Freeze all but the top `layers` (and a head); with peft wrap the linear maps of those layers."""
    body = network.base_model
    stacks = [one for one in body.modules() if isinstance(one, nn.ModuleList)]
    if not stacks:
        raise _cannot("its layers cannot be told apart", type(body).__name__)
    top = list(max(stacks, key=lambda stack: len(list(stack))))[-options.layers :]
    body.requires_grad_(False)
    for layer in top:
        layer.requires_grad_(True)
    if options.peft == "none":
        return network
    from peft import AdaLoraConfig, LoraConfig, get_peft_model

    inside = {id(one) for layer in top for one in layer.modules() if isinstance(one, nn.Linear)}
    names = [name for name, one in network.named_modules() if id(one) in inside]
    if not names:
        raise _cannot("its layers have no linear maps that peft can adapt; set adapt.peft: none", type(body).__name__)
    plain: dict[str, Any] = {"lora_alpha": options.alpha, "lora_dropout": LORA_DROPOUT, "target_modules": names}
    if options.peft == "lora":
        return get_peft_model(network, LoraConfig(r=options.rank, **plain))
    start, final = options.steps // 10, options.steps // 3
    return get_peft_model(
        network,
        AdaLoraConfig(
            init_r=options.rank + options.rank // 2, target_r=options.rank, tinit=start, tfinal=final, deltaT=5,
            total_step=options.steps, **plain,
        ),
    )  # fmt: skip


def _digest(texts: list[str], pairs_P2: Ints) -> str:
    total = hashlib.sha256(pairs_P2.tobytes())
    for text in texts:
        total.update(text.encode(errors="replace") + b"\0")
    return total.hexdigest()
