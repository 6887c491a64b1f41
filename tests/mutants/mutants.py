"""A fixed list of small faults in the maths, each with the tests that must notice it.

``make mutants`` puts one after the other into a copy of the package. A new test of the maths is
worth more than a new mutant: add one where a fault was found that no test had seen.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    file: str
    old: str
    """Part of the file, which occurs in it once."""
    new: str
    tests: tuple[str, ...]
    """Files of tests, or single ones as pytest names them: at least one test must fail."""
    equivalent: str = ""
    """Why nothing can notice it; of those that change what is computed, empty."""


_ALONE = ("tests/diffusion/test_drawn_rows.py",)
_EQUAL = ("tests/diffusion/test_equal_numbers.py",)
_LOOP = ("tests/diffusion/test_denoise_loop.py",)
_INTERVALS = ("tests/evaluation/test_intervals.py",)
_LIKELIHOOD = ("tests/diffusion/test_likelihood.py",)
_NOISE = ("tests/diffusion/test_noise.py",)
_OBJECTIVE = ("tests/diffusion/test_objective.py",)
_ORDER = ("tests/training/test_sample_order.py",)
_BUDGET = ("tests/data/test_token_budget.py",)

MUTANTS = (
    # Noise and objectives
    Mutant("dlm/diffusion/noise.py", "return counter_uniform(key.seed, _PROMPT, key.sample_B)",
           "return counter_uniform(key.seed, _TIME, key.sample_B)", _NOISE),
    Mutant("dlm/diffusion/noise.py", "second_BL = uniform(_SECOND_MASK)",
           "second_BL = uniform(_MASK)", _NOISE),
    Mutant("dlm/diffusion/objective.py", "weight_B = 1.0 - level.time_B + 1.0 / self.num_timesteps",
           "weight_B = 1.0 - level.time_B", _OBJECTIVE),
    Mutant("dlm/diffusion/objective.py", "eps * smoothing_M", "eps * weight_M * smoothing_M",
           _OBJECTIVE),
    Mutant("dlm/diffusion/objective.py", "count_B = maskable_BL.sum(dim=1)",
           "count_B = maskable_BL.sum(dim=1).max().expand(len(maskable_BL))", _OBJECTIVE),
    Mutant("dlm/diffusion/objective.py", "/ (log_p_MV.shape[-1] - 1)", "/ log_p_MV.shape[-1]",
           ("tests/diffusion/test_chunked_loss.py",)),
    # The reverse process
    Mutant("dlm/diffusion/sampling/loop.py",
           "block * (num_iterations or block_length or 0)", "iterations",
           _ALONE),
    Mutant("dlm/diffusion/sampling/needed.py",
           "self._num_read is None and sampler.repeats and network.repeats",
           "self._num_read is None and network.repeats", _ALONE),
    Mutant("dlm/diffusion/sampling/guidance.py", "(self.weight + 1) * (c_SV - u_SV)",
           "self.weight * (c_SV - u_SV)", ("tests/diffusion/test_guidance.py",)),
    Mutant("dlm/diffusion/sampling/predict.py",
           "sampler.routing_noise * step.noise_rate * gumbel_BN",
           "sampler.routing_noise * gumbel_BN", _ALONE),
    Mutant("dlm/diffusion/sampling/state.py", "rank_BN < count_B[:, None]",
           "rank_BN <= count_B[:, None]", _LOOP),
    Mutant("dlm/diffusion/sampling/rules.py",
           "fell_BN = prediction.score_BN < canvas.score_BN",
           "fell_BN = prediction.score_BN <= canvas.score_BN", _EQUAL),
    Mutant("dlm/diffusion/sampling/rules.py",
           "prediction.log_probability_BN.exp() >= step.limit",
           "prediction.log_probability_BN.exp() > step.limit", _EQUAL),
    Mutant("dlm/diffusion/sampling/rules.py", "(before_BN <= step.limit)",
           "(before_BN < step.limit)", _EQUAL),
    Mutant("dlm/diffusion/sampling/rules.py", "return step.set_probability == 1.0",
           "return step.set_probability >= 1.0", (*_LOOP, *_EQUAL),
           equivalent="a probability is never above 1"),
    Mutant("dlm/diffusion/sampling/choice.py", "before_BNV >= top_p", "before_BNV > top_p", _EQUAL),
    # Likelihood and generation
    Mutant("dlm/diffusion/likelihood.py", "std(correction=1)", "std(correction=0)", _LIKELIHOOD),
    Mutant("dlm/diffusion/likelihood.py", "maskable_BN & (rank_BN >= _column(step))",
           "maskable_BN & (rank_BN > _column(step))", _LIKELIHOOD),
    Mutant("dlm/generation/likelihood.py", "ids.append((window << 32) + row_id)",
           "ids.append(row_id)",
           ("tests/generation/test_text_likelihood.py::"
            "test_windows_of_a_repeated_text_have_draws_of_their_own",)),
    Mutant("dlm/generation/rerank.py",
           "return candidate.length_log_probability + candidate.log_probability",
           "return candidate.length_log_probability + mean(candidate)",
           ("tests/generation/test_rerank.py",)),
    Mutant("dlm/generation/lengths.py",
           "kept.setdefault(min(length, most), LengthChoice(min(length, most), log_probability))",
           "kept[min(length, most)] = LengthChoice(min(length, most), log_probability)",
           ("tests/generation/test_candidate_lengths.py",)),
    # Evaluation
    Mutant("dlm/evaluation/intervals.py", "spread * count / (count - 1)", "spread", _INTERVALS),
    Mutant("dlm/evaluation/intervals.py", "max(float(np.sum(sums**2)), alone)",
           "float(np.sum(sums**2))", _INTERVALS),
    Mutant("dlm/evaluation/intervals.py", "tail(p, count >= right)", "tail(p, count > right)",
           _INTERVALS),
    Mutant("dlm/evaluation/intervals.py", "float(np.sum(first < second))",
           "float(np.sum(first <= second))", _INTERVALS),
    Mutant("dlm/evaluation/intervals.py", "-math.sqrt(rows / (rows - 1)) * student(rows - 1)",
           "-student(rows - 1)", ("tests/evaluation/test_score_intervals.py",)),
    Mutant("dlm/evaluation/intervals.py", "if not clusters and all(are_marks(",
           "if all(are_marks(", _INTERVALS),
    Mutant("dlm/evaluation/metrics.py", '(s["right"] in equal) / len(equal)',
           'float(s["right"] in equal)', ("tests/evaluation/test_row_metrics.py",)),
    Mutant("dlm/evaluation/evaluate.py", "found.low > 0 or found.high < 0",
           "found.low >= 0 or found.high <= 0", ("tests/evaluation/test_row_metrics.py",)),
    # Training: schedules, figures, the choice of a step
    Mutant("dlm/stages/optimizer.py", "return (step + 1) / warmup", "return step / warmup",
           ("tests/training/test_stage_settings.py::"
            "test_the_learning_rate_peaks_when_warm_up_ends_and_never_rises_again",)),
    Mutant("dlm/stages/noise_levels.py", "* NUM_BUCKETS - 1e-4)", "* NUM_BUCKETS)",
           ("tests/training/test_noise_levels.py::"
            "test_rates_on_an_edge_fall_into_the_bucket_below",)),
    Mutant("dlm/callbacks/ema.py", "(1 + self.updates) / (10 + self.updates)",
           "self.updates / (10 + self.updates)",
           ("tests/training/test_weight_average.py::test_the_average_is_that_of_a_loop",)),
    Mutant("dlm/training/exported_step.py", "2 * long_enough > len(references)",
           "2 * long_enough >= len(references)",
           ("tests/training/test_resume_best.py::"
            "test_the_default_metric_can_tell_answers_apart",)),
    # Order of samples, resume, packing
    Mutant("dlm/data/batches/order.py", "WholeWindows(steps, steps * self.global_batch_size)",
           "WholeWindows(step, step * self.global_batch_size)", _ORDER),
    Mutant("dlm/data/batches/epochs.py", "enumerate(before, start=1)", "enumerate(before)",
           ("tests/data/test_batches_without_copies.py",)),
    Mutant("dlm/data/batches/token_budget.py",
           "inside = self._window(place.window).bounds[step - place.first_step]",
           "inside = self._window(place.window).bounds[step - place.first_step + 1]", _BUDGET),
    Mutant("dlm/data/batches/token_budget.py", 'np.searchsorted(areas, tokens, side="right")',
           'np.searchsorted(areas, tokens, side="left")', _BUDGET),
    Mutant("dlm/data/batches/token_budget.py", "area(last - 1, end) <= tokens",
           "area(last - 1, end) < tokens", _BUDGET),
    Mutant("dlm/data/batches/packing.py", "fills + sizes[document] <= width",
           "fills + sizes[document] < width", ("tests/data/test_packing_plan.py",)),
    Mutant("dlm/data/rows/blocks.py", "if number or not first:", "if number:",
           ("tests/data/test_token_shards.py",)),
)  # fmt: skip
"""Every fault, in the order of the table."""
