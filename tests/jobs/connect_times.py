"""Golden cases: times whose date stands in a column of its own."""

from __future__ import annotations

from tests.jobs.connect_plants import FAILURES, Case, rows

CASES = [
    Case(
        "date and time of day in two columns, in a log twice",
        {
            "r.csv": "Datum;Uhrzeit;Anlage;Temp_degC\n" + rows("{t};P-0{m};{c}", "%d.%m.%Y;%H:%M:%S"),
            "stoerungen.csv": "Anlage;Schadensart;Beginn Datum;Ende Datum;Beginn Zeit;Ende Zeit\n"
            "P-01;Lager;21.01.2025;22.01.2025;10:00:00;11:00:00\n",
        },
        told="""
            readings r.csv
              csv delimiter=';' decimal=','
              time Datum Uhrzeit %d.%m.%Y %H:%M:%S Europe/Berlin
              machine column Anlage
              Temp_degC = temp: temperature [degC]
            failures stoerungen.csv
              csv delimiter=';'
              time Beginn Datum Beginn Zeit %d.%m.%Y %H:%M:%S Europe/Berlin
              machine column Anlage
              started_at = Beginn Zeit
              failure_mode = Schadensart
              ended_at = Ende Datum Ende Zeit %d.%m.%Y %H:%M:%S Europe/Berlin
        """,
        settings=("time.zone=Europe/Berlin",),
    ),
    Case(
        "SAP's packed dates and times",
        {"r.csv": "DATE,TIME,MACHINE,TEMP_C\n" + rows("{t},P-0{m},{v}", "%Y%m%d,%H%M%S"), "failures.csv": FAILURES},
        told="""
            readings r.csv
              csv
              time DATE TIME %Y%m%d %H%M%S
              machine column MACHINE
              TEMP_C = temp: temperature [C]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
        doubts={"time.zone"},
    ),
    Case(
        "American dates with the time of day beside them",
        {
            "r.csv": "Date,Time,machine,temp_degF\n" + rows("{t},P-0{m},{v}", "%m/%d/%Y,%I:%M %p"),
            "failures.csv": FAILURES,
        },
        told="""
            readings r.csv
              csv
              time Date Time %m/%d/%Y %I:%M %p
              machine column machine
              temp_degF = temp: temperature [degF]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
        doubts={"time.zone"},
    ),
    Case(
        "dates and times of day parted by the blanks that part all columns",
        {"d.dat": rows("{t} M{m} {v} {w}", "%Y-%m-%d %H:%M:%S")},
        told="""
            readings d.dat
              csv delimiter='whitespace' columns=('column_1', 'column_2', 'column_3', 'column_4', 'column_5')
              time column_1 column_2 iso
              machine column column_3
              column_4 = column_4: number [1]
              column_5 = column_5: number [1]
        """,
        doubts={"failures", "time.zone", "units"},
    ),
    Case(
        "fixed columns with a unit behind a blank, a date, a time of day and a state",
        {
            "a.txt": "Anlage      Datum       Uhrzeit    Temp [°C]     Zustand\n"
            + rows("Pumpe {m}     {t}  {c:>9}{word:>12}", "%d.%m.%Y  %H:%M:%S")
        },
        told="""
            readings a.txt
              csv delimiter='fixed' widths=(12, 12, 9, 11, 11) decimal=','
              time Datum Uhrzeit %d.%m.%Y %H:%M:%S
              machine column Anlage
              Temp [°C] = temp: temperature [°C]
              Zustand = zustand: number [1] {'IDLE': 2.0, 'RUN': 1.0, 'STOP': 0.0}
        """,
        doubts={"failures", "time.zone"},
    ),
]
