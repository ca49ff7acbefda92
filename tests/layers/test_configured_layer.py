"""A layer's configuration is what its constructors took, and nothing else."""

from kdsr_tf.layers.configured_layer import ConfiguredLayer, arguments_of


class Scaled(ConfiguredLayer):
    def __init__(self, factor, names=(), **kwargs):
        super().__init__(**kwargs)
        self.factor, self.names, self.not_an_argument = factor, tuple(names), 7


class Shifted(Scaled):
    def __init__(self, *args, shift=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.shift = shift


def test_arguments_of_all_constructors_are_kept():
    config = Shifted(2.0, ("a", "b"), shift=3.0, name="shifted", dtype="float16").get_config()
    own = {"factor": 2.0, "names": ["a", "b"], "shift": 3.0, "name": "shifted", "trainable": True}
    assert {key: value for key, value in config.items() if key != "dtype"} == own
    assert list(config)[-3:] == ["shift", "factor", "names"], "the same order in every process"
    assert Shifted.from_config(config).get_config() == config


def test_arguments_of_a_constructor_as_it_begins():
    class Model:
        def __init__(self, dim, seed=3, **kwargs):
            self.arguments = arguments_of(locals())

    assert Model(4, name="model").arguments == {"dim": 4, "seed": 3}
