"""Quarantine: where a rejected batch lies whole, with its reasons and its report, until somebody releases it."""

from __future__ import annotations

import logging

from endcap.config import load_settings
from endcap.errors import InputError
from endcap.pipeline.batches import find_batch, quarantined, rejection

logger = logging.getLogger(__name__)


def quarantine_batch(batch_id: str) -> None:
    """Move the batch, whole, to quarantine with its reasons and its report. Nothing else has changed.

    Raises:
        BatchRejected: always; that is how the run turns red with the reasons.
    """
    home = load_settings().paths
    if not quarantined(home, batch_id):
        batch = find_batch(home, batch_id)
        outcome = batch.read_json("validation.json")
        reason = {key: outcome[key] for key in ("batch_id", "reasons", "warnings", "report_url")}
        batch.write_json("reason.json", reason | {"source": batch.read_json("batch.json")["source"]})
        home.quarantine.mkdir(parents=True, exist_ok=True)
        batch.folder.rename(home.quarantine / batch_id)
        logger.warning("batch_quarantined batch_id=%s reasons=%d", batch_id, len(outcome["reasons"]))
    raise rejection(home, batch_id)


def release_batch(batch_id: str) -> None:
    """Take a batch out of quarantine to be judged again; nothing of its first judgement stays with it.

    Raises:
        InputError: it is not in quarantine.
    """
    home = load_settings().paths
    if not quarantined(home, batch_id):
        raise InputError("is not in quarantine", field="batch_id", value=batch_id, action="See `endcap quarantine list`.")
    folder = home.quarantine / batch_id
    (folder / "validation.json").unlink(missing_ok=True)
    home.batches.mkdir(parents=True, exist_ok=True)
    folder.rename(home.batches / batch_id)
    (home.batches / batch_id / "reason.json").unlink(missing_ok=True)
