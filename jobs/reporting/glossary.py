"""What the words of the reports mean, and on what each figure is conditional.

The one idea: a figure whose choice or condition flatters someone says so where it is explained.
"""

from __future__ import annotations

PAGE = [
    ("failures caught", "An alarm was raised in time: not later than the shortest useful lead and not earlier than "
     "the longest horizon before the failure."),
    ("false alarm", "An alarm after which the machine ran on past the longest horizon. One that stays on is counted "
     "again each time that horizon passes."),
    ("caught at equal false alarms", "How many this candidate could catch if its threshold were set to raise no "
     "more false alarms than the champion; it may choose on the test part, so it flatters everyone but the "
     "champion."),
    ("always on alarm", "What an alarm on every machine at all times comes to. A candidate that catches as many at "
     "as many false alarms has told nobody anything."),
    ("AUC", "How often a machine about to fail is ranked above one that is not: 0.5 is chance, 1 is perfect."),
    ("Brier skill", "How much of the error of always giving the plant's average risk is saved: 0 is none, 1 is all."),
    ("in 80 % interval", "How often the remaining life fell between p10 and p90; 80 % is right."),
    ("life error", "Median absolute error of the remaining life (p50) over the last days before each failure, "
     "sudden ones included."),
    ("oracle", "Knows the simulator's hidden truth; no model can do better. Its threshold is chosen on the test "
     "part."),
    ("n in the diagram", "Failures behind a point; the same failure may stand behind several. Grey bars: scored "
     "ticks."),
    ("intervals", "95 %, by drawing machines again and again with replacement."),
]  # fmt: skip

FIGURES = [
    ("failures caught", "An alarm was raised in time: not later than the shortest useful lead and not earlier than "
     "the longest horizon before the failure. Failures are counted, never hours."),
    ("alarms come true", "Precision: of the alarms that could be checked, those followed by a failure in time. Late "
     "alarms came too near to the failure; open ones were never settled, since service or the record's end came "
     "first."),
    ("false alarms", "The machine ran on past the longest horizon. One that stays on counts again each time it "
     "passes."),
    ("caught at equal false alarms", "With the threshold set anew, on these very data, for no more false alarms "
     "than the champion's: it flatters everyone but the champion."),
    ("hours caught at 50 % precision", "Of all machine-hours with a failure ahead within the alarm's horizon, the "
     "share flagged at the lowest threshold at which at least half of the flagged hours are such hours. The "
     "threshold is chosen on these very data, so it describes an order and promises nothing."),
    ("average precision", "Precision averaged over all shares of such hours flagged; chance is their share of all "
     "hours."),
    ("Brier score, skill", "Mean squared error of the risk, hours of unknown outcome made up for by weighting known "
     "ones by the inverse of their chance to stay observed (Kaplan-Meier of leaving, on all test hours, floored at "
     "5 %). Skill: the share of it saved against the training part's Kaplan-Meier risk for all."),
    ("log-likelihood of a tick", "Of what happened after it, under the whole curve; higher is better."),
    ("life error, RMSE, score", "On hours whose failure came within the longest horizon, hence conditional on the "
     "end: whoever always says «soon» looks well here. Error: median of p50. RMSE: of the mean life up to that "
     "horizon, n failures. Score: PHM08's penalty a tick with that horizon as 125 cycles; too long a life costs "
     "more."),
    ("concordance", "Of pairs of hours that can be compared, how often the one that ends first was given less life."),
    ("in 80 % interval", "How often the remaining life fell between p10 and p90; lives that go on count by what the "
     "curve itself still expects, so read it beside the share that the log could settle."),
    ("width", "Median of p90 minus p10, ends past the last edge held there, as served; the share open at the top "
     "beside."),
    ("by predicted, by true life", "Of lives that turned out short most lay below any honest p10, so bands of true "
     "life are biased even for a perfect model. Bands of the predicted median are not."),
    ("age", "Of the machine when the alarm was raised, and when the failure came."),
    ("failure mode", "Failures of that mode against all healthy time; days before other failures are left out. "
     "There is no coverage of one mode: the interval is that of all failures together."),
    ("always healthy, always on alarm", "No alarm ever; and an alarm on every machine at all times, with the "
     "training part's Kaplan-Meier curve for everyone."),
    ("replaced on condition", "Nobody sees whether such a machine would have failed, and those that look worst are "
     "replaced. As logged it counts as having left by chance; the truth lies between it having failed then and it "
     "not failing within the alarm's horizon. Likelihoods are of what is assumed: compare candidates at one bound."),
    ("oracle", "Knows the simulator's hidden truth; its threshold is chosen on the test part. A ceiling."),
    ("the champion minus another", "Both on the same draws of machines, so what is hard for both cancels out."),
    ("intervals", "95 %, by drawing machines again and again with replacement; none where all draws agree."),
    ("not enough failures", "Under 20 in the group: read the counts, not the shares."),
]  # fmt: skip
