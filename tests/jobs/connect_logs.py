"""Golden cases: logs, work orders, equipment lists, and times in two columns."""

from __future__ import annotations

from tests.jobs.connect_plants import FAILURES, Case, rows

READINGS = "time,machine,temp_degC\n"

CASES = [
    Case(
        "SAP notifications and orders by equipment number",
        {
            "r.csv": READINGS + rows("{t},1000{m},{v}"),
            "IW29_Meldungen.csv": "Meldung;Meldungsart;Equipment;Technischer Platz;Kurztext;Ausfall;Störungsbeginn;"
            "Beginn Uhrzeit;Störungsende;Ende Uhrzeit;Schadenscode;Meldungsdatum\n"
            "21;M2;10001;H1-01;Lager heiß;X;20.01.2025;10:00:00;20.01.2025;14:00:00;LAG;20.01.2025\n"
            "22;M2;10002;H1-02;Geräusch;;21.01.2025;10:00:00;21.01.2025;12:00:00;GER;21.01.2025\n"
            "23;M1;10002;H1-02;Anstrich;;22.01.2025;08:00:00;22.01.2025;09:00:00;;22.01.2025\n",
            "IW39_Auftraege.csv": "Auftrag;Auftragsart;Equipment;Kurztext;Eckstarttermin;Eckendtermin;Istkosten\n"
            "4001;PM01;10001;Lager tauschen;21.01.2025;22.01.2025;1.250,50\n"
            "4002;PM02;10002;Inspektion;23.01.2025;23.01.2025;200,00\n",
        },
        told="""
            readings r.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
            failures IW29_Meldungen.csv
              csv delimiter=';'
              where Ausfall is X
              time Störungsbeginn Beginn Uhrzeit %d.%m.%Y %H:%M:%S Europe/Berlin
              machine column Equipment
              started_at = Beginn Uhrzeit
              failure_mode = Schadenscode
              external_id = Meldung
              finding = Kurztext
              ended_at = Störungsende Ende Uhrzeit %d.%m.%Y %H:%M:%S Europe/Berlin
              recorded_at = Meldungsdatum %d.%m.%Y Europe/Berlin
            maintenance IW39_Auftraege.csv
              csv delimiter=';' decimal=',' thousands='.'
              where Auftragsart is PM01
              time Eckstarttermin %d.%m.%Y Europe/Berlin
              machine column Equipment
              started_at = Eckstarttermin
              ended_at = Eckendtermin
              trigger = Auftragsart
              cost = Istkosten
              external_id = Auftrag
              finding = Kurztext
              effect = Auftragsart
              trigger: PM01 is unknown
              effect: PM01 is repaired
            maintenance IW39_Auftraege.csv
              csv delimiter=';' decimal=',' thousands='.'
              where Auftragsart is PM02
              time Eckstarttermin %d.%m.%Y Europe/Berlin
              machine column Equipment
              started_at = Eckstarttermin
              ended_at = Eckendtermin
              trigger = Auftragsart
              cost = Istkosten
              external_id = Auftrag
              finding = Kurztext
              trigger: PM02 is calendar
        """,
        remarks=(
            "iw29_meldungen_failures: 'Ausfall': rows without 'X' are no failures and are not read",
        ),
        settings=("time.zone=Europe/Berlin",),
    ),
    Case(
        "functional locations in the tags, equipment numbers with zeros in the notifications",
        {
            "r.csv": "time;tag;value\n" + rows("{t};H1-PU-0{m}.TEMP_degC;{v}") + rows("{t};H1-PU-0{m}.DRUCK_bar;{w}"),
            "notifications.csv": "Notification,Notifictn type,Equipment,Malfunct. start,Malfunct. end,Damage\n"
            "1,M2,000000000010001,2025-01-20T10:00:00Z,2025-01-20T12:00:00Z,WEAR\n"
            "2,M3,000000000010002,2025-01-20T10:00:00Z,2025-01-20T12:00:00Z,\n",
            "equipment.csv": "Equipment,Description,Functional Loc.\n10001,Pump 1,H1-PU-01\n10002,Pump 2,H1-PU-02\n",
        },
        told="""
            readings r.csv
              csv long delimiter=';'
              time time iso
              machine tag by pattern
              tag tag, value value
              DRUCK_bar = druck: pressure [bar]
              TEMP_degC = temp: temperature [degC]
            machines equipment.csv
              csv
              machine column Functional Loc.
              functional_location = Functional Loc.
              equipment = Equipment
            failures notifications.csv
              csv
              where Notifictn type is M2
              time Malfunct. start iso
              machine column Equipment 000000000010001 is H1-PU-01, 000000000010002 is H1-PU-02
              started_at = Malfunct. start
              ended_at = Malfunct. end
              failure_mode = Damage
              external_id = Notification
        """,
        remarks=(
            "notifications_failures: 'Notifictn type': 'M3' are no failures and are not read",
        ),
    ),
    Case(
        "Maximo's work orders",
        {
            "r.csv": READINGS + rows("{t},P-0{m},{v}"),
            "wo.csv": "WONUM,DESCRIPTION,ASSETNUM,WORKTYPE,STATUS,REPORTDATE,ACTSTART,ACTFINISH\n"
            "1,Bearing,P-01,CM,COMP,2025-01-21T10:00:00Z,2025-01-21T12:00:00Z,2025-01-21T14:00:00Z\n"
            "2,Monthly,P-02,PM,COMP,2025-01-22T10:00:00Z,2025-01-22T12:00:00Z,2025-01-22T14:00:00Z\n",
        },
        told="""
            readings r.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
            maintenance wo.csv
              csv
              where WORKTYPE is CM
              time ACTSTART iso
              machine column ASSETNUM
              started_at = ACTSTART
              ended_at = ACTFINISH
              recorded_at = REPORTDATE
              trigger = WORKTYPE
              external_id = WONUM
              finding = DESCRIPTION
              effect = WORKTYPE
              trigger: CM is unknown
              effect: CM is repaired
            maintenance wo.csv
              csv
              where WORKTYPE is PM
              time ACTSTART iso
              machine column ASSETNUM
              started_at = ACTSTART
              ended_at = ACTFINISH
              recorded_at = REPORTDATE
              trigger = WORKTYPE
              external_id = WONUM
              finding = DESCRIPTION
              trigger: PM is calendar
        """,
        doubts={"failures"},
    ),
    Case(
        "one log of everything",
        {
            "r.csv": READINGS + rows("{t},P-0{m},{v}"),
            "events.csv": "time,machine,type,code,description\n2025-01-21T10:00:00Z,P-01,failure,BRG,bearing gone\n"
            "2025-01-22T10:00:00Z,P-01,maintenance,M1,greased\n2025-01-22T11:00:00Z,P-02,alarm,E42,too hot\n"
            "2025-01-22T12:00:00Z,P-02,shift note,,Anna\n",
        },
        told="""
            readings r.csv
              csv
              time time iso
              machine column machine
              temp_degC = temp: temperature [degC]
            maintenance events.csv
              csv
              where type is maintenance
              time time iso
              machine column machine
              started_at = time
              finding = description
              code = code
            errors events.csv
              csv
              where type is alarm
              time time iso
              machine column machine
              started_at = time
              code = code
              finding = description
            failures events.csv
              csv
              where type is failure
              time time iso
              machine column machine
              started_at = time
              finding = description
              code = code
        """,
        remarks=(
            "events_maintenance: 'type': 'shift note' are of no known kind and not read",
        ),
    ),
    Case(
        "Azure's predictive maintenance tables",
        {
            "PdM_telemetry.csv": '"datetime","machineID","volt","rotate"\n'
            + rows('"{t}",{m},{v},{w}', "%Y-%m-%d %H:%M:%S"),
            "PdM_errors.csv": '"datetime","machineID","errorID"\n"2025-01-21 10:00:00",1,"error1"\n',
            "PdM_failures.csv": '"datetime","machineID","failure"\n"2025-01-22 10:00:00",1,"comp4"\n',
            "PdM_maint.csv": '"datetime","machineID","comp"\n"2025-01-22 10:00:00",1,"comp4"\n',
            "PdM_machines.csv": '"machineID","model","age"\n1,"model3",18\n2,"model4",7\n',
        },
        told="""
            readings PdM_telemetry.csv
              csv
              time datetime iso
              machine column machineID
              volt = volt: number [1]
              rotate = rotate: number [1]
            errors PdM_errors.csv
              csv
              time datetime iso
              machine column machineID
              started_at = datetime
              code = errorID
            failures PdM_failures.csv
              csv
              time datetime iso
              machine column machineID
              started_at = datetime
              failure_mode = failure
            machines PdM_machines.csv
              csv
              machine column machineID
              machine_type = model
            maintenance PdM_maint.csv
              csv
              time datetime iso
              machine column machineID
              started_at = datetime
              component = comp
        """,
        doubts={"time.zone", "units"},
    ),
    Case(
        "instruments tied to listed machines by their number, a line for each component",
        {
            "w.csv": "time;PT-101 [bar];TI-101 [degC];PT-102 [bar];TI-102 [degC]\n" + rows("{t};{v};{w};{i}.5;{i}.25"),
            "equipment_list.csv": "Equipment;Description;Type;Component\nP-101;Feed pump;pump;motor\n"
            "P-101;Feed pump;pump;bearing\nP-102;Feed pump 2;pump;motor\nP-102;Feed pump 2;pump;bearing\n",
        },
        told="""
            readings w.csv
              csv delimiter=';'
              time time iso
              machine tag by pattern 101 is P-101, 102 is P-102
              PT = pt: pressure [bar]
              TI = ti: temperature [degC]
            machines equipment_list.csv
              csv delimiter=';'
              machine column Equipment
              machine_type = Type
        """,
        doubts={"failures"},
    ),
    Case(
        "a machine that logs spell otherwise",
        {"r.csv": READINGS + rows("{t},p0{m},{v}"), "failures.csv": FAILURES},
        told="""
            readings r.csv
              csv
              time time iso
              machine column machine p01 is P-01, p02 is P-02
              temp_degC = temp: temperature [degC]
            failures failures.csv
              csv
              time started_at iso
              machine column machine
              started_at = started_at
              failure_mode = failure_mode
        """,
    ),
]
