"""Values written into a params.yaml, whose comments and layout stay as they are."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from endcap.config import Params, load_params
from endcap.errors import ConfigError


def write_values(path: Path, values: Mapping[str, Any]) -> Params:
    """Set dotted keys ({"train.dim": 32}) and return the parameters as they are now; the file is replaced whole or not at all.

    Raises:
        ConfigError: the file cannot be read, a key is unknown, or a value is out of range; the file is as it was then.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)  # as the file has its lists
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    try:
        content = yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError) as error:
        raise ConfigError(f"cannot be read ({error})", field=str(path), action="Mend the file.") from error
    for key, value in values.items():
        *sections, name = key.split(".")
        at = content
        for section in sections:
            at = at.setdefault(section, {})
        at[name] = value
    text = io.StringIO()
    yaml.dump(content, text)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text.getvalue(), encoding="utf-8")
    try:
        params = load_params(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return params
