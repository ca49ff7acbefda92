import pytest


@pytest.mark.slow
def test_pictures_and_words_help_and_codes_find_the_planted_relation(tmp_path):
    from benchmarks.demo_quality import measure

    result = measure(str(tmp_path), seeds=3)
    assert result["relative_gain"] >= 0.2, result
    for ids, modalities in zip(result["hr_20_ids"], result["hr_20_modalities"], strict=True):
        assert modalities > ids, result
    assert min(result["hr_20_iisan"]) > 1.2 * max(result["hr_20_ids"]), result
    # Even use of the codes would give 0.1 everywhere.
    assert result["image_planted_in_top_codes"] >= 0.3, result
    assert result["image_other_in_planted_codes"] <= 0.05, result
    assert result["text_planted_in_top_codes"] >= 2 * result["text_other_in_planted_codes"], result
