import tomllib
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from photometrus.config import Config, dump, load, merge
from photometrus.errors import MissingInput, UsageError


def test_defaults_file_and_options_in_this_order(tmp_path):
    path = tmp_path / "prime.toml"
    path.write_text("[sky]\nclip_sigma = 5\nsmooth_pix = 64\n[run]\nkeep = 'final'\n")
    config = load(path, {"sky": {"clip_sigma": 6.0}})
    assert config.sky.clip_sigma == 6.0  # the option
    assert config.sky.smooth_pix == 64  # the file
    assert config.run.keep == "final"
    assert config.sky.min_frames == Config().sky.min_frames  # the default
    assert Config().sky.clip_sigma != 6.0  # and nothing else has changed


def test_what_is_dumped_is_the_same_configuration(tmp_path):
    changed = load(None, {"run": {"rotator_deg": -45.7}, "input": {"archive": 'a "b" \\ c'}})
    path = tmp_path / "config.toml"
    path.write_text(dump(changed), encoding="utf-8")
    assert load(path) == changed
    assert load(path) != Config()


def test_every_key_is_written_out():
    told = tomllib.loads(dump(Config()))
    for section in fields(Config):
        part = getattr(Config(), section.name)
        if is_dataclass(part):
            assert set(told[section.name]) == {f.name for f in fields(part)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sky]\nclip_sgma = 3\n", "did you mean 'clip_sigma'"),
        ("[skye]\nclip_sigma = 3\n", "did you mean 'sky'"),
        ("[sky]\nclip_sigma = 'three'\n", "sky.clip_sigma = 'three'"),
        ("[sky]\nmin_frames = 3.5\n", "sky.min_frames = 3.5"),
        ("[sky]\nmin_frames = true\n", "sky.min_frames = True"),
        ("[run]\nparallel = 1\n", "run.parallel = 1"),
        ("[run]\nengine = 'natve'\n", "did you mean 'native'"),
        ("[run]\nkeep = 'some'\n", "one of all, final"),
        ("sky = 3\n", "a table of keys"),
        ("[astrometry]\nprior_frame_arcsec = [1.0]\n", "prior_frame_arcsec"),
        ("[chip.5.sky]\nclip_sigma = 3\n", "chips 1 to 4"),
        ("[chip.3.sky]\nclip_sgma = 3\n", "did you mean 'clip_sigma'"),
        ("[sky\n", "not readable as TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path, text, words):
    path = tmp_path / "prime.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        load(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(MissingInput, match="no such configuration file"):
        load(tmp_path / "absent.toml")
    (tmp_path / "noise.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not readable as TOML"):
        load(tmp_path / "noise.toml")
    with pytest.raises(UsageError, match="not readable as TOML"):
        load(tmp_path)


def test_a_whole_number_serves_as_a_real_one():
    config = load(None, {"sky": {"clip_sigma": 4}})
    assert config.sky.clip_sigma == 4.0
    assert isinstance(config.sky.clip_sigma, float)


def test_a_chip_has_changes_of_its_own():
    config = load(None, {"chip": {"3": {"sky": {"clip_sigma": 6.0}}}, "sky": {"smooth_pix": 64}})
    assert config.for_chip(3).sky.clip_sigma == 6.0
    assert config.for_chip(3).sky.smooth_pix == 64
    assert config.for_chip(1).sky.clip_sigma == Config().sky.clip_sigma
    assert config.sky.clip_sigma == Config().sky.clip_sigma


def test_a_config_does_not_change():
    config = Config()
    merge(config, {"sky": {"clip_sigma": 9.0}})
    assert config == Config()
    with pytest.raises(FrozenInstanceError):
        config.run = None
