"""The model card that travels with every exported version."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from kdsr_tf.artifacts import Manifest
from kdsr_tf.stages import count_name

_CARD = """\
# {name}, version {version} ({variant})

Sequential recommendations of {allowed} items: a history of item ids in, the {k} best items
out.

## Origin

| | |
|---|---|
| interactions and catalogue | `{source}` |
| sequences | `{sequences}` |
| student | `{student}` |
| this export | `{fingerprint}` |

{counts}

## Items

{catalogue}

## Model

```yaml
{config}```

## Quality

{metrics}

## Gate

Checked in a fresh process before this version appeared; figures are fractions, those on
sampled points no substitute for the quality above:

{gate}

## Use

Strings in and out. `serving_default` leaves the items of the history out,
`recommend_with_seen` does not; `similar_items` finds the neighbours of an item, `embed` gives
the user vector, `score` the scores of given candidates. Histories are oldest first; `""` and
unknown ids are ignored. An empty or unknown history gets the items most often seen in training.

Index:

```json
{index}
```

## Limits

The ranking follows past behaviour in the training data, its popularity bias included. Items
without train interactions have only what their modalities tell; items added without training
are placed by their nearest neighbours, and their own way of selling is unknown. The `scann`
variant is approximate and needs a server with ScaNN's operations; `exact` needs stock operations
only.
"""

_ORACLE = (
    "**The epoch was selected on the test points (`train.selection=test_oracle`), so figures on "
    "them flatter this model.**"
)


def model_card(
    *,
    model_name: str,
    variant: str,
    manifest: Manifest,
    inputs: Mapping[str, Manifest],
    evaluation: Manifest | None,
    gate: Sequence[str],
) -> str:
    """Markdown that says what a version is, where it is from and how good.

    `manifest` is that of the export, complete; `inputs` has at least `sequences` and `student`;
    `evaluation` is of this very student; `gate` has a line per check.
    """
    sequences, student = inputs["sequences"], inputs["student"]
    if evaluation is None:
        metrics = "Not evaluated when it was exported (`kdsr evaluate`)."
    else:
        metrics = f"On all test points, accuracy in %:\n\n```json\n{_json(evaluation.details)}\n```"
    if student.details.get("selection") == "test_oracle":
        metrics = f"{_ORACLE}\n\n{metrics}"
    return _CARD.format(
        name=model_name,
        version=manifest.counts["version"],
        variant=variant,
        allowed=f"{manifest.counts['allowed_items']:,}",
        k=manifest.counts["k"],
        source=sequences.inputs.get("source", "?"),
        sequences=sequences.fingerprint,
        student=student.fingerprint,
        fingerprint=manifest.fingerprint,
        counts=", ".join(
            f"{value:,} {count_name('sequences', name)}"
            for name, value in sorted(sequences.counts.items())
        ),
        catalogue="\n".join(f"- {line}" for line in _catalogue(manifest)),
        config=yaml.safe_dump(student.config, sort_keys=True),
        metrics=metrics,
        gate="\n".join(f"- {line}" for line in gate),
        index=_json(_index(variant, manifest)),
    )


def _catalogue(manifest: Manifest) -> Iterator[str]:
    counts, details = manifest.counts, manifest.details
    yield f"{counts['items']:,} items are known, {counts['allowed_items']:,} may be recommended."
    for name in ("allow_items", "deny_items"):
        if name in details:
            listed = details[name]
            yield f"`export.{name}`: {listed['ids']:,} ids, of which {listed['unknown']:,} unknown."
    if "added_items" in details:
        added = details["added_items"]
        yield (
            f"`export.add_items`: {added['items']:,} items added without training, "
            f"{added['known_already']:,} known from training, {added['without_vectors']:,} left "
            "out for want of a vector."
        )


def _index(variant: str, manifest: Manifest) -> dict[str, Any]:
    if variant == "exact":
        table = manifest.config.get("export", {}).get("exact_table", "float32")
        return {"exhaustive": True, "table": table}
    return {key: manifest.details[key] for key in ("index", "similar_items_index")}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)
