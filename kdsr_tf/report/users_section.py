"""Sample users: what they took, what each student offers, what came next."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

from kdsr_tf import schema, stages
from kdsr_tf.evaluation.ranker import Ranker
from kdsr_tf.hashing import stable_hash
from kdsr_tf.report.finished_run import FinishedRun
from kdsr_tf.report.page_items import PageItems
from kdsr_tf.sequences import User, read_users

_USERS = 6
_SHOWN = 10
_QUERIES = 256


def draw_users(run: FinishedRun) -> list[User]:
    """Users with a test point, enough to ask an index with, in an order of the seed."""
    every = read_users(stages.location(run.config, "sequences"))
    users = (user for user in every if 1 < user.num_train < len(user.items))
    seed = run.config.seed
    return heapq.nsmallest(_QUERIES, users, key=lambda user: stable_hash(f"{seed} {user.user_id}"))


def describe(
    runs: Sequence[FinishedRun],
    rankers: Sequence[Ranker],
    users: Sequence[User],
    pictures: PageItems,
) -> list[dict[str, Any]]:
    """The first users, each with the offers of the ranker of every run."""
    users = users[:_USERS]
    if not users:
        return []
    histories = [user.items[: user.num_train] for user in users]
    offers = [ranker.recommend(histories, _SHOWN) for ranker in rankers]
    shown = []
    for row, (user, history) in enumerate(zip(users, histories, strict=True)):
        following = user.items[user.num_train :]
        lists = [
            {
                "run": run.name,
                "items": [
                    {"item": pictures.show(item), "hit": bool(item in following)}
                    for item in answers[row]
                    if item != schema.PAD
                ],
            }
            for run, answers in zip(runs, offers, strict=True)
        ]
        shown.append(
            {
                "user_id": user.user_id,
                "history": [pictures.show(item) for item in history[-_SHOWN:]],
                "earlier": max(0, len(history) - _SHOWN),
                "following": [pictures.show(item) for item in following[:_SHOWN]],
                "later": max(0, len(following) - _SHOWN),
                "offers": lists,
            }
        )
    return shown
