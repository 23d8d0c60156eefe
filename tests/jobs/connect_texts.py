"""Golden cases: how text tables are written."""

from __future__ import annotations

from tests.jobs.connect_plants import FAILURES, Case, rows

FIXED = "{:<10}{:<20}{:>12}{:>12}\n"

CASES = [
    Case(
        "a SCADA export with a preamble that is cut like the table",
        {
            "scada.csv": "Station;North\nOperator;Smith\nChannels;4\nZeitzone;Europe/Berlin\n\nZeit;P1 Druck [bar]\n"
            + rows("{t};{c}", "%d.%m.%Y %H:%M:%S")
        },
        told="""
            readings scada.csv
              csv delimiter=';' decimal=',' skip_rows=5
              time Zeit %d.%m.%Y %H:%M:%S Europe/Berlin
              machine constant alpha
              P1 Druck [bar] = p1_druck: pressure [bar]
        """,
        doubts={"failures", "machine"},
    ),
    Case(
        "a historian's sheet with tags, descriptions and units above the values",
        {
            "pi.csv": "Timestamp,PT-101,TT-101,FT-101\nTime,Discharge pressure,Bearing temp,Flow\n,bar,degC,m3/h\n"
            + rows("{t},{v},{w},{i}.5", "%d-%b-%y %H:%M:%S")
        },
        told="""
            readings pi.csv
              csv skip_after_header=2
              time Timestamp %d-%b-%y %H:%M:%S
              machine constant alpha
              PT-101 = pt_101: pressure [bar]
              TT-101 = tt_101: temperature [degC]
              FT-101 = ft_101: flow [m3/h]
        """,
        doubts={"failures", "machine", "time.zone"},
    ),
    Case(
        "fixed columns with a header",
        {
            "log.txt": FIXED.format("Machine", "Time", "Temp [degC]", "Press [bar]")
            + rows("P-0{m}      {t:<20}{v:>12}{w:>12}", "%Y-%m-%d %H:%M:%S"),
            "failures.csv": FAILURES,
        },
        told="""
            readings log.txt
              csv delimiter='fixed' widths=(10, 20, 12, 12)
              time Time iso
              machine column Machine
              Temp [degC] = temp: temperature [degC]
              Press [bar] = press: pressure [bar]
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
        "fixed columns without a header, with empty cells",
        {
            "log.dat": rows("P-0{m}   {t:<17}{v:>8}", "%d.%m.%Y %H:%M")
            + rows("P-0{m}   {t:<17}{v:>8}{w:>9}", "%d.%m.%Y %H:%M"),
            "failures.csv": FAILURES,
        },
        told="""
            readings log.dat
              csv delimiter='fixed' widths=(7, 18, 7, 9) columns=('column_1', 'column_2', 'column_3', 'column_4')
              time column_2 %d.%m.%Y %H:%M
              machine column column_1
              column_3 = column_3: number [1]
              column_4 = column_4: number [1]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
        doubts={"time.zone", "units"},
    ),
    Case(
        "a database's spool file with a line below the header",
        {
            "spool.lst": "MACHINE    TS                   TEMP_DEGC\n---------- ------------------- ----------\n"
            + rows("Pump 0{m}    {t:<19} {v:>10}", "%Y-%m-%d %H:%M:%S")
        },
        told="""
            readings spool.lst
              csv delimiter='fixed' widths=(11, 20, 10) skip_after_header=1
              time TS iso
              machine column MACHINE
              TEMP_DEGC = temp: temperature [degC]
        """,
        doubts={"failures", "time.zone"},
    ),
    Case(
        "an SAP list between lines, with a point between thousands",
        {
            "alv.txt": f"20.01.2025      Dynamic List\n\n{'-' * 46}\n|Zeit               |Anlage    |Leistung_kW |\n"
            f"{'-' * 46}\n" + rows("|{t}|P-0{m}      |    1.1{i:02d},50|", "%d.%m.%Y %H:%M:%S") + "-" * 46 + "\n"
        },
        told="""
            readings alv.txt
              csv delimiter='|' decimal=',' thousands='.' skip_rows=3 skip_after_header=1
              time Zeit %d.%m.%Y %H:%M:%S
              machine column Anlage
              Leistung_kW = leistung: power [kW]
        """,
        doubts={"failures", "time.zone"},
    ),
    Case(
        "quoted English thousands in a table cut by commas",
        {"kw.csv": "time,machine,power_kW,speed_rpm\n" + rows('{t},P-0{m},"1,1{i:02d}.5",{i}8')},
        told="""
            readings kw.csv
              csv thousands=','
              time time iso
              machine column machine
              power_kW = power: power [kW]
              speed_rpm = speed: speed [rpm]
        """,
        doubts={"failures"},
    ),
    Case(
        "Swiss thousands",
        {"kw.csv": "time;machine;power_kW\n" + rows("{t};P-0{m};1'1{i:02d}.5")},
        told="""
            readings kw.csv
              csv delimiter=';' thousands="'"
              time time iso
              machine column machine
              power_kW = power: power [kW]
        """,
        doubts={"failures"},
    ),
    Case(
        "a point between thousands is proved by the commas of other columns",
        {"kw.csv": "Zeit;Maschine;Starts [1/min];Temp_degC\n" + rows("{t};P-0{m};1.1{i:02d};{c}")},
        told="""
            readings kw.csv
              csv delimiter=';' decimal=',' thousands='.'
              time Zeit iso
              machine column Maschine
              Starts [1/min] = starts: speed [1/min]
              Temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "single quotes around cells that hold the delimiter",
        {"q.csv": "'time','machine','Pressure, bar'\n" + rows("'{t}','P-0{m}','{v}'")},
        told="""
            readings q.csv
              csv quote="'"
              time time iso
              machine column machine
              Pressure, bar = pressure: pressure [bar]
        """,
        doubts={"failures"},
    ),
    Case(
        "quotes that mean inches",
        {"q.csv": "time,machine,valve,temp_C\n" + rows('{t},P-0{m},3/4" valve,{v}')},
        told="""
            readings q.csv
              csv quote=''
              time time iso
              machine column machine
              temp_C = temp: temperature [C]
        """,
        doubts={"failures"},
        remarks=(
            "q: not read: 'valve'",
        ),
    ),
    Case(
        "a delimiter at the end of each row but not of the header",
        {"t.csv": "time;machine;temp_degC\n" + rows("{t};P-0{m};{v};")},
        told="""
            readings t.csv
              csv delimiter=';' columns=('time', 'machine', 'temp_degC', 'column_4') skip_rows=1
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "a header in the last comment line",
        {"t.dat": "# pump test\n# time machine temp_degC\n" + rows("{t} P-0{m} {v}")},
        told="""
            readings t.dat
              csv delimiter='whitespace' columns=('time', 'machine', 'temp_degC') comment='#'
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "a LabVIEW file with two preambles",
        {
            "m.lvm": "LabVIEW Measurement\t\nSeparator\tTab\nDate\t2025/01/20\n***End_of_Header***\t\n\t\n"
            "Channels\t2\t\t\nSamples\t24\t24\t\n***End_of_Header***\t\t\t\nX_Value\tTemp_degC\tVib_mm/s\tComment\n"
            + rows("{i}.000000\t{v}\t{w}\t")
        },
        told="""
            readings m.lvm
              csv delimiter='\\t' skip_rows=8
              time X_Value counter step 1 s
              machine constant alpha
              Temp_degC = temp: temperature [degC]
              Vib_mm/s = vib: vibration [mm/s]
        """,
        doubts={"failures", "machine", "time.step"},
    ),
    Case(
        "NASA's engines: no header, blanks, a counter",
        {
            "train_FD001.txt": "".join(
                f"{u} {c} {0.01 * c:.4f} 518.67 {600 + u}.5  \n" for u in (1, 2) for c in range(1, 30)
            )
        },
        told="""
            readings train_FD001.txt
              csv delimiter='whitespace' columns=('column_1', 'column_2', 'column_3', 'column_4', 'column_5')
              time column_2 counter step 1 s
              machine column column_1
              column_3 = column_3: number [1]
              column_4 = column_4: number [1]
              column_5 = column_5: number [1]
        """,
        doubts={"failures", "time.step", "units"},
        remarks=(
            "train_fd001: 'column_4' is constant (518.67)",
        ),
    ),
]
