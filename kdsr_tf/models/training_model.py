"""A recommender with the objectives it learns by."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import keras
from keras import ops

from kdsr_tf.items.content import Content
from kdsr_tf.models.recommender import Recommender
from kdsr_tf.models.weighted_terms import WeightedTerms
from kdsr_tf.objectives.objective import Objective, Step, Term, Weight
from kdsr_tf.ops.gather import gather
from kdsr_tf.ops.masking import count_windows
from kdsr_tf.schema import ITEMS, TARGET, TARGET_INDEX, WINDOWS_PER_TARGET
from kdsr_tf.types import Tensor


class CatalogueOfTests(keras.metrics.Metric):
    """Item vectors `(num_items + 1, dim)` that are made once per pass over tests, not per batch.

    They are state that a pass leaves behind and that is no weight. Keras has one kind of such
    state, that of metrics: a call sees it on all backends but JAX. Nothing is logged, and
    checkpoints leave it out (`training.checkpoints.all_variables`).
    """

    def __init__(self, shape: tuple[int, int]):
        super().__init__(name="catalogue_of_tests", dtype="float32")
        self.vectors = self.add_variable(
            shape, "zeros", aggregation="only_first_replica", name="vectors"
        )

    def fill(self, vectors: Tensor) -> None:
        """Set the vectors of the pass that begins."""
        self.vectors.assign(vectors)

    def update_state(self, *arguments, **kwargs) -> None:
        """Nothing: `fill` is called before the first batch."""

    def reset_state(self) -> None:
        """Nothing: Keras resets metrics after `fill`."""

    def result(self) -> dict[str, Tensor]:
        """Nothing to log."""
        return {}


class TrainingModel(WeightedTerms):
    """Trains a recommender by a weighted sum of the terms of its objectives.

    Losses are sums divided by counts of the global batch. `loss` is the weighted total; every
    term is logged under its name as it is, and weighted under `{term}_weighted`. Tests add
    the metrics of the objectives.

    If the loss is not finite, all gradients become NaN, so an optimizer that refuses such
    gradients (`training.rates.grouped_adam`) leaves the weights as they were;
    `finite_report` names the terms. The norms that such an optimizer keeps are logged as
    `gradient_norm_{group}`.

    Where the shapes of a step may depend on the data, that is on TensorFlow without XLA, user
    vectors are computed at targets, logits a chunk of targets at a time and the codes of valid
    pairs only, in float32 (`kdsr_tf.ops.kernels`). Compiled steps compute user vectors at
    `target_index` if the batch has it, otherwise at all positions, and all pairs; the losses
    are the same.

    Args:
        recommender: The model to train, and the one to use afterwards.
        objectives: What it learns by, in this order.
        weights: Weights by term, numbers or learning-rate schedules over training steps;
            what is left out has its objective's default. A term of weight 0 is still logged.

    Call arguments:
        inputs: Dict of `items` and `target` int32 `(batch, length)`, right-padded with 0, and
            what the objectives read; optionally `target_index`. Where items are computed, also
            what `Content.of_batch` makes of both.
        training: Whether to drop units and draw pairs and negatives.

    Returns:
        Dict of `terms`, each a total and a count, and of what the metrics of tests read.

    Raises:
        ValueError: for a weight of an unknown term, an objective that the recommender cannot
            learn by, or windows longer than its `max_length`.
    """

    def __init__(
        self,
        recommender: Recommender,
        objectives: Sequence[Objective],
        weights: Mapping[str, Weight] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        # Layers cast what they read: states of float16 would lose digits in bfloat16 here.
        self.autocast = False
        self.recommender = recommender
        self.objectives = list(objectives)
        self._content: Content | None = None
        self._is_test_step = False
        for objective in self.objectives:
            objective.check(recommender)
        defaults = [objective.default_weights for objective in self.objectives]
        self.weigh(_complete(weights or {}, {k: v for known in defaults for k, v in known.items()}))
        reads = any(objective.reads_catalogue for objective in self.objectives)
        self._sparse_gradients = not reads
        self.build()

    def build(self, input_shape=None) -> None:
        for objective in self.objectives:
            objective.build()
        rows = self.recommender.num_items + 1
        self._catalogue_of_tests = CatalogueOfTests((rows, self.recommender.dim))
        super().build()

    @property
    def state_of_tests(self) -> list[keras.Variable]:
        """Variables that every pass over tests sets anew."""
        return self._catalogue_of_tests.variables

    def read_content_from(self, content: Content) -> None:
        """Say where the content of the catalogue is, for tests of computed items."""
        self._content = content

    def encode_catalogue(self) -> None:
        """Make the vectors that items are scored by, before a pass over tests."""
        if keras.backend.backend() == "jax":
            return  # see `_scored_by`
        served = self.recommender
        if served.item_encoder.computed:
            if self._content is None:
                raise ValueError(
                    "Tests compare computed items with the whole catalogue, and its content is "
                    "not known. Call `read_content_from(content)` before."
                )
            served = served.served(self._content)
        self._catalogue_of_tests.fill(served.item_vectors())

    def evaluate(self, *arguments, **kwargs):
        """As Keras does, with the catalogue encoded once."""
        self.encode_catalogue()
        return super().evaluate(*arguments, **kwargs)

    def test_on_batch(self, *arguments, **kwargs):
        """As Keras does, with the catalogue encoded before."""
        self.encode_catalogue()
        return super().test_on_batch(*arguments, **kwargs)

    def test_step(self, *arguments):
        """Keras's step on the active backend, after `encode_catalogue`."""
        with self._in_test_step():
            return super().test_step(*arguments)

    def call(self, inputs: dict[str, Tensor], training: bool | None = None) -> dict:
        for key in (ITEMS, TARGET):
            if key not in inputs:
                raise ValueError(
                    f"The batch has no `{key}`. The input is one dict and there is no `y`. "
                    f"Received: {', '.join(sorted(inputs))}."
                )
        step = self._step_of(inputs, bool(training))
        terms: dict[str, Term] = {}
        measured = []
        for objective in self.objectives:
            own, found = objective.terms(step, self.recommender)
            terms |= own
            measured.append(found)
        return {"terms": terms} if training else {"terms": terms, "measured": measured}

    def loss_terms(self, x: Mapping[str, Tensor], y_pred: dict) -> dict[str, Term]:
        return y_pred["terms"]

    def compute_metrics(self, x, y, y_pred, sample_weight=None) -> dict:
        """Loss terms; in tests also what the objectives measure."""
        if "measured" not in y_pred:
            return self.term_logs()
        for objective, found in zip(self.objectives, y_pred["measured"], strict=True):
            objective.measure(found)
        return self.get_metrics_result()

    def get_config(self) -> dict:
        serialize = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "recommender": serialize(self.recommender),
            "objectives": [serialize(objective) for objective in self.objectives],
            "weights": serialize(self._weights),
        }

    @classmethod
    def from_config(cls, config: dict) -> TrainingModel:
        deserialize = keras.saving.deserialize_keras_object
        made = {
            "recommender": deserialize(config["recommender"]),
            "objectives": [deserialize(objective) for objective in config["objectives"]],
            "weights": deserialize(config["weights"]),
        }
        return cls(**{**config, **made})

    @contextlib.contextmanager
    def _in_test_step(self) -> Iterator[None]:
        self._is_test_step = True
        try:
            yield
        finally:
            self._is_test_step = False

    def _scored_by(self) -> Tensor | None:
        """Item vectors in a test: those of the pass, or made here where there is no pass."""
        computed = self.recommender.item_encoder.computed
        if not self._is_test_step:
            return None if computed else self.recommender.item_vectors()
        if keras.backend.backend() != "jax":
            return ops.convert_to_tensor(self._catalogue_of_tests.vectors)
        if computed:
            raise ValueError(
                "On JAX, Keras hides the state of metrics from a call, so computed items cannot be "
                "tested by `evaluate`. Rank with `recommender.served(content)`."
            )
        return self.recommender.item_vectors()

    def _step_of(self, inputs: dict[str, Tensor], training: bool) -> Step:
        recommender, sparse = self.recommender, self._sparse_gradients
        recommender.check_length(inputs[ITEMS])
        compiled = TARGET_INDEX in inputs or self.jit_compile
        dynamic = keras.backend.backend() == "tensorflow" and not compiled
        known = recommender.item_encoder.in_batch(inputs, training)
        vectors = known(inputs[ITEMS], sparse_gradients=sparse and training)
        targets = ops.reshape(inputs[TARGET], (-1,))
        index = inputs.get(TARGET_INDEX)
        if index is None and dynamic:
            index = ops.cast(ops.nonzero(targets > 0)[0], "int32")
        if index is None:
            index = ops.arange(ops.size(targets), dtype="int32")
        at, length = ops.maximum(index, 0), ops.shape(inputs[ITEMS])[1]
        targets = ops.where(index >= 0, gather(targets, at), 0)
        causal = recommender.backbone.causal
        prefixes = None if causal else (at // length, at % length)
        states, users = recommender.encode(vectors, prefixes, training, sparse, known)
        if causal:
            users = gather(ops.reshape(users, (-1, users.shape[-1])), at)
        return Step(
            inputs=inputs,
            vectors=vectors,
            states=states,
            users=users,
            targets=targets,
            rows=at // length,
            windows=_windows(inputs, targets),
            known=known,
            scored_by=None if training else self._scored_by(),
            training=training,
            dynamic=dynamic,
        )


def _windows(inputs: dict[str, Tensor], targets: Tensor) -> Tensor:
    """What means over windows are divided by: the batch's share of the windows of an epoch."""
    if WINDOWS_PER_TARGET not in inputs:
        return count_windows(inputs[ITEMS])
    windows, of_epoch = ops.unstack(ops.cast(inputs[WINDOWS_PER_TARGET], "float32"), 2)
    return windows / ops.maximum(of_epoch, 1.0) * ops.sum(ops.cast(targets > 0, "float32"))


def _complete(weights: Mapping[str, Weight], defaults: Mapping[str, float]) -> dict[str, Weight]:
    """The weight of every term."""
    complete: dict[str, Weight] = dict(defaults)
    for term, weight in weights.items():
        if term not in complete:
            raise ValueError(f"`weights` has no term `{term}`. Valid terms: {', '.join(complete)}.")
        complete[term] = weight if callable(weight) else float(weight)
    return complete
