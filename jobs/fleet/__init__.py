"""A fleet that never was: the generative model behind ``millwright simulate``.

One machine is a set of independent causes of failure that compete. Time runs in hours.

1. *Operation* (``operation.py``). A weekly shift plan by machine, known ahead, says how hard it works in every hour;
   weather and a random load come on top. Wear follows the plan only, so that its future is known given its state.
2. *Defects* (``physics.py``). Each failure mode starts a defect at a rate that grows with the age of its component
   (a linear hazard, that is a Weibull law of shape 2 plus a constant: W. Weibull, 1951). From there its wear is a
   gamma process in planned work, from 0 to failure at 1 (M. Abdel-Hameed, 1975; J. M. van Noortwijk, 2009, «A survey
   of the application of gamma processes in maintenance»): monotone, noisy, and with a first passage in closed form.
   The time from the first sign to the failure is the P-F interval of reliability-centred maintenance (J. Moubray,
   «Reliability-centered Maintenance» II): 2 to 12 days here.
3. *Healing*. Some defects vanish by themselves when their wear reaches ``HEAL_AT`` (a strainer flushes itself free, a
   seal reseats, a bearing is run in): a precursor without a failure.
4. *Sudden failures*. A constant rate per planned hour (short circuits, tool crashes): no precursor, nothing to learn.
5. *Frailty*. A good third of the machines hardly ever fail, the others differ by a gamma factor on every rate
   (J. W. Vaupel et al., 1979).
6. *Maintenance* (``life.py``). A calendar service, and a repair that the condition triggers at a constant rate once
   wear is past half. Some visits only inspect. What is replaced starts anew: wear, age, and the level of its sensors.
7. *Sensors* (``sensors.py``). A reading is a machine's level, plus load, speed and weather, plus each mode's effect.
   Effects grow exponentially with wear, as a crack does under the law of P. Paris and F. Erdogan (1963) with exponent
   2, where growth is proportional to length. Vibration levels lie about the zones of ISO 10816-3 / 20816-3. Every
   defect shows with its own strength, so a reading never gives the wear away. Noise rises with load and has memory.
8. *The field* (``faults.py``, ``bookings.py``). Missing cells, stuck sensors, duplicates, rows that come a month late,
   values no parser reads, failures that nobody logged or that were miscoded, bookings up to 72 h late.

``truth.py`` keeps what really happened and the oracle: the probability of failure by horizon, given the true state.
"""
