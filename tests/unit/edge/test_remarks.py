"""What is said beside tokens stands for the text there is, and goes when the device has it."""

from __future__ import annotations

from cascade.edge.remarks import Remarks


def test_a_verdict_is_said_only_where_there_is_one() -> None:
    remarks = Remarks()
    assert remarks.verdict(0, 5) is None
    remarks.dispute([3, 7])
    assert remarks.verdict(2, 5) == (True, False, True)
    assert remarks.verdict(4, 7) is None
    remarks.forget_before(4)
    assert remarks.verdict(2, 5) is None
    assert remarks.verdict(6, 8) == (True, False)


def test_a_text_that_is_another_one_has_no_remarks_of_the_old_one() -> None:
    remarks = Remarks()
    remarks.dispute([3, 7])
    remarks.note_logprobs([(5, -0.5), (6, -1.0), (7, -2.0)])
    remarks.forget_from(6)
    assert remarks.verdict(6, 8) is None
    assert remarks.verdict(3, 4) == (False,)
    assert remarks.logprobs(5, 6, known=0) == (-0.5,)
    assert remarks.logprobs(5, 7, known=0) is None, "what stands there now was decided elsewhere"


def test_log_probabilities_that_the_device_has_are_not_kept() -> None:
    remarks = Remarks()
    remarks.note_logprobs([(5, -0.5), (6, -1.0)])
    remarks.forget_before(6)
    assert remarks.logprobs(5, 7, known=6) == (0.0, -1.0)
    assert remarks.logprobs(5, 7, known=5) is None
