"""Golden cases: what a column, a tag, a file's name, a folder or an archive's member stands for."""

from __future__ import annotations

from tests.jobs.connect_plants import FAILURES, Case, rows, zipped

ONE = "time,value\n" + rows("{t},{v}")
TWO = "time,value\n" + rows("{t},{w}")

CASES = [
    Case(
        "members of an archive, logs among them",
        {
            "export.zip": zipped(
                readings__p_2025_01_csv="time,machine,temp_degC\n" + rows("{t},P-01,{v}"),
                readings__p_2025_02_csv="time,machine,temp_degC\n" + rows("{t},P-02,{v}"),
                failures_csv=FAILURES,
            )
        },
        told="""
            readings export.zip!/readings/p_*.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
            failures export.zip!/failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
    ),
    Case(
        "an archive a month",
        {f"exp_2025-0{m}.zip": zipped(data_csv="time,machine,temp_degC\n" + rows("{t},P-01,{v}")) for m in (1, 2)},
        told="""
            readings exp_*.zip!/data.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "one file a sensor, the machine before it",
        {
            "P-01.temp_degC.csv": ONE, "P-01.pressure_bar.csv": TWO, "P-02.temp_degC.csv": ONE,
            "P-02.pressure_bar.csv": TWO,
        },
        told="""
            readings P-*.csv
              csv long
              time time iso
              machine tag by pattern
              tag the file, value value
              pressure_bar = pressure: pressure [bar]
              temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "one file a sensor, a folder a machine",
        {
            "P-01/temp_degC.csv": ONE, "P-01/pressure_bar.csv": TWO, "P-02/temp_degC.csv": ONE,
            "P-02/pressure_bar.csv": TWO, "failures.csv": FAILURES,
        },
        told="""
            readings P-*/*.csv
              csv long
              time time iso
              machine folder by pattern
              tag the file, value value
              pressure_bar = pressure: pressure [bar]
              temp_degC = temp: temperature [degC]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
    ),
    Case(
        "one file a sensor, without a header, in an archive",
        {"trend.zip": zipped(**{"PT-101_csv": rows("{t};{v}"), "TT-101_csv": rows("{t};{w}")})},
        told="""
            readings trend.zip!/PT-101.csv
              csv long delimiter=';' columns=('column_1', 'column_2')
              time column_1 iso
              machine constant alpha
              tag the file, value column_2
              PT-101 = pt_101: pressure [bar]
            readings trend.zip!/TT-101.csv
              csv long delimiter=';' columns=('column_1', 'column_2')
              time column_1 iso
              machine constant alpha
              tag the file, value column_2
              TT-101 = tt_101: temperature [degC]
        """,
        doubts={"failures", "machine", "units"},
    ),
    Case(
        "columns that carry the machine",
        {
            "w.csv": "time,P-01.temp,P-01.pressure,P-02.temp,P-02.pressure\n" + rows("{t},{v},{w},{i}.5,{i}.25"),
            "failures.csv": FAILURES,
        },
        told="""
            readings w.csv
              csv
              time time iso
              machine tag by pattern
              temp = temp: number [1]
              pressure = pressure: number [1]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
        doubts={"units"},
    ),
    Case(
        "columns that carry the machine, and units behind it",
        {
            "w.csv": "Zeit;P-01 Temp [degC];P-01 Druck [bar];P-02 Temp [degC];P-02 Druck [bar]\n"
            + rows("{t};{v};{w};{i}.5;{i}.25")
        },
        told="""
            readings w.csv
              csv delimiter=';'
              time Zeit iso
              machine tag by pattern
              Temp [degC] = temp: temperature [degC]
              Druck [bar] = druck: pressure [bar]
        """,
        doubts={"failures"},
    ),
    Case(
        "columns with the machine behind the sensor",
        {
            "w.csv": "Zeit;Temp P-01 [°C];Druck P-01 [bar];Temp P-02 [°C];Druck P-02 [bar]\n"
            + rows("{t};{v};{w};{i}.5;{i}.25")
        },
        told="""
            readings w.csv
              csv delimiter=';'
              time Zeit iso
              machine tag by pattern
              Temp = temp: temperature [°C]
              Druck = druck: pressure [bar]
        """,
        doubts={"failures"},
    ),
    Case(
        "bearings of one machine are no machines",
        {
            "r.csv": "time,bearing1.temp_C,bearing1.vib_mm_s,bearing2.temp_C,bearing2.vib_mm_s\n"
            + rows("{t},{v},{w},{i}.5,{i}.25")
        },
        told="""
            readings r.csv
              csv
              time time iso
              machine constant alpha
              bearing1.temp_C = bearing1_temp: temperature [C]
              bearing1.vib_mm_s = bearing1_vib: vibration [mm_s]
              bearing2.temp_C = bearing2_temp: temperature [C]
              bearing2.vib_mm_s = bearing2_vib: vibration [mm_s]
        """,
        doubts={"failures", "machine"},
    ),
    Case(
        "instruments by ISA's letters",
        {"dcs.csv": "time;PT-101 [bar];TI_204.PV;FIC-7.PV [m3/h];LT-3 [%]\n" + rows("{t};{v};{w};{i}.5;{i}.25")},
        told="""
            readings dcs.csv
              csv delimiter=';'
              time time iso
              machine constant alpha
              PT-101 [bar] = pt_101: pressure [bar]
              TI_204.PV = ti_204: temperature [degC]
              FIC-7.PV [m3/h] = fic_7: flow [m3/h]
              LT-3 [%] = lt_3: level [%]
        """,
        doubts={"failures", "machine", "units"},
    ),
    Case(
        "OPC tags with a state among them and a status",
        {
            "opc.csv": "NodeId;SourceTimestamp;Value;StatusCode\n"
            + "".join(
                rows(f"Line1.P-0{k}.{tag};{{t}};{{{value}}};Good")
                for k in (1, 2)
                for tag, value in (("Temp_degC", "v"), ("Speed_rpm", "i"), ("State", "word"))
            )
        },
        told="""
            readings opc.csv
              csv long delimiter=';'
              time SourceTimestamp iso
              machine tag by pattern
              tag NodeId, value Value, quality StatusCode Good
              Speed_rpm = speed: speed [rpm]
              State = state: number [1] {'IDLE': 2.0, 'RUN': 1.0, 'STOP': 0.0}
              Temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "InfluxDB's annotated table",
        {
            "q.csv": "#group,false,false,true,true,false,false,true,true\n"
            "#datatype,string,long,dateTime:RFC3339,dateTime:RFC3339,dateTime:RFC3339,double,string,string\n"
            "#default,_result,,,,,,,\n,result,table,_start,_stop,_time,_value,_field,machine\n"
            + rows(",,0,2025-01-20T00:00:00Z,2025-01-23T00:00:00Z,{t},{v},temp_degC,P-0{m}")
            + rows(",,1,2025-01-20T00:00:00Z,2025-01-23T00:00:00Z,{t},{w},pressure_bar,P-0{m}")
        },
        told="""
            readings q.csv
              csv long comment='#'
              time _time iso
              machine column machine
              tag _field, value _value
              pressure_bar = pressure: pressure [bar]
              temp_degC = temp: temperature [degC]
        """,
        doubts={"failures"},
    ),
    Case(
        "states, codes, constants and columns that repeat others",
        {
            "plc.csv": "time,machine,temp_degC,temp_degF,p_bar,p2_bar,limit_bar,state,mode,error_code,operator\n"
            + "".join(
                f"2025-01-20T{i:02d}:00:00Z,P-01,{60 + i % 7}.5,{(60 + i % 7 + 0.5) * 1.8 + 32:.1f},{i}.5,{i}.5,3.3,"
                f"{('RUN', 'STOP', 'IDLE')[i % 3]},{i % 4},{42 * (i % 5 == 0)},{('Anna', 'Bob')[i % 2]}\n"
                for i in range(24)
            ),
            "failures.csv": FAILURES,
        },
        told="""
            readings plc.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
              p_bar = p: pressure [bar]
              limit_bar = limit: pressure [bar]
              mode = mode: number [1]
              error_code = error_code: number [1]
              state = state: number [1] {'IDLE': 2.0, 'RUN': 1.0, 'STOP': 0.0}
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
        remarks=(
            "plc: 'temp_degF' repeats 'temp_degC' in every row of the sample: no sensor of its own",
            "plc: 'p2_bar' repeats 'p_bar' in every row of the sample: no sensor of its own",
            "plc: 'limit_bar' is constant (3.3)",
            "plc: not read: 'operator'",
        ),
    ),
]
