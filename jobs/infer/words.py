"""The words of the field, English and German: headers, file names and texts that plants write.

The one idea: names are compared folded and without units (`jobs.infer.names.folded`), so that
``Gebucht am``, ``gebucht_am`` and ``GebuchtAm`` are one entry here. Data, no logic.
"""

from __future__ import annotations

from models.source import Role


def _words(text: str) -> list[str]:
    return text.split()


def _set(text: str) -> frozenset[str]:
    return frozenset(_words(text))


def _sets(**words: str) -> dict[str, frozenset[str]]:
    return {name: _set(text) for name, text in words.items()}


MACHINE = _set(
    "machine machine_id machineid machine_name machine_no maschine maschinen_id maschinennummer maschinennr asset "
    "asset_id assetid anlage anlagen_id aggregat device device_id deviceid unit_id unit_number unit_nr unitid "
    "equipment_id equipment_name equipment_number engine engine_id motor_id pump pump_id pumpe compressor "
    "compressor_id kompressor verdichter spindle spindle_id spindel turbine turbine_id fan ventilator geblaese "
    "presse robot roboter conveyor mill muehle gearbox getriebe generator boiler kessel chiller truck "
    "vehicle vehicle_id fahrzeug assetnum asset_number asset_no asset_name equipment_no pump_no machine_nr "
    "machine_number machine_code line_machine anlagennummer anlagen_nr maschine_nr"
)
# In this order, where nothing better is there.
MACHINE_LATE = tuple(
    _words(
        "unit motor serial serial_number seriennummer equipment equipmentnummer equipment_nr equi equnr press "
        "train zug "
        "technischer_platz techn_platz tplnr functional_location functional_loc funct_location func_loc floc location "
        "name id"
    )
)

TIME = _set(
    "time timestamp ts datetime date_time date zeit zeitstempel zeitpunkt datum datum_zeit datumzeit uhrzeit "
    "time_stamp event_time local_time utc t messzeit erfassungszeit measured_at sampled_at recorded_at"
)
COUNTER = _set(
    "cycle cycles time_cycles time_in_cycles zyklus zyklen step steps counter count takt takte zaehler tick ticks "
    "x_value hub huebe stroke strokes elapsed elapsed_time laufzeit uptime time t zeit seconds sekunden run_time"
)
TAG = _set(
    "tag tagname tag_name tag_id point point_name pointname point_id sensor sensor_name sensor_id signal "
    "signal_name variable variable_name channel kanal messstelle messpunkt item item_id parameter measurement "
    "metric series attribute name kennung field display_name node_id nodeid symbolname "
    "varname"
)
VALUE = _set("value val wert messwert reading v numeric_value value_double measured_value")
QUALITY = _set("quality qualitaet q status opc_quality quality_code status_code statuscode guete state_code "
"qual validity flag")
UNIT = _set("unit units einheit einheiten uom engineering_unit eng_units engunits eu")  # beside a value
INDEX = _set("index idx row row_id rownum lfd_nr nr no id record_id unnamed_0 day_num")

QUALITY_GOOD = _set("good gut ok g valid gueltig 192 true good_non_specific")

# Field of a table -> words of its column. The order is that in which fields choose their column.
EVENT_TIMES = _sets(
    started_at=(
        "started_at started start begin beginn begann start_time start_date startzeit startdatum von failed_at "
        "occurred_at occurred time timestamp ts datetime date_time date zeit zeitpunkt datum zeitstempel event_time "
        "failure_time failure_date stoerbeginn stoerungsbeginn malfunction_start malfunct_start breakdown_start from "
        "basic_start basic_start_date bas_start_date actual_start act_start actstart ist_start iststart eckstart "
        "eckstarttermin basisstart ausfallbeginn von_datum beginndatum req_start required_start"
    ),
    ended_at=(
        "ended_at ended end ende endzeit enddatum end_time end_date finished finished_at completed completed_at bis "
        "closed_at repaired_at stoerende stoerungsende malfunction_end malfunct_end to until breakdown_end "
        "basic_finish "
        "basic_fin_date basic_finish_date actual_finish act_finish actfinish ist_ende istende eckende eckendtermin "
        "basisende ausfallende finish finish_date"
    ),
    recorded_at=(
        "recorded_at recorded booked_at booked gebucht_am gebucht buchung created_at created created_on entered_at "
        "entered erfasst_am erfasst angelegt_am reported_at reported posted_at posted logged_at created reportdate "
        "report_date notif_date notification_date notifictn_date meldungsdatum meldedatum erfassungsdatum"
    ),
)
EVENT_COMMON = _sets(
    component=(
        "component component_id comp bauteil baugruppe komponente part part_name object_part objektteil assembly "
        "object_part_code"
    ),
    downtime_h="downtime downtime_hours ausfall ausfallzeit ausfalldauer stillstand stillstandszeit",
    cost=(
        "cost costs kosten cost_total total_cost amount betrag total_act_costs total_actual_costs actual_costs "
        "gesamtkosten istkosten gesamtkosten_ist"
    ),
    external_id=(
        "work_order work_order_id workorder wo wo_number wo_id auftrag auftragsnummer auftrags_nr order order_id "
        "order_number notification notification_id notification_no meldungsnummer meldung meldungs_nr ticket ticket_id "
        "external_id wonum aufnr qmnum"
    ),
    finding=(
        "finding findings befund remark remarks bemerkung comment comments notes note kommentar description "
        "beschreibung kurztext short_text text langtext long_text bezeichnung"
    ),
)
FIELDS: dict[Role, dict[str, frozenset[str]]] = {
    "failures": EVENT_TIMES
    | _sets(
        failure_mode=(
            "failure_mode mode failure failure_type schadensart schadensbild schaden fehlerart ausfallart damage "
            "damage_code fault fault_type defect failure_code failurecode problemcode problem_code schadenscode "
            "problem_code_text damage_code_text cause_code cause ursache"
        ),
    )
    | EVENT_COMMON
    | _sets(code="code"),
    "maintenance": EVENT_TIMES
    | _sets(
        trigger=(
            "trigger anlass ausloeser reason grund order_type auftragsart maintenance_type wartungsart worktype "
            "work_type "
            "maintactivtype maint_activity_type instandhaltungsart ilart leistungsart type art"
        ),
        effect="effect wirkung action massnahme activity taetigkeit result ergebnis work_done",
    )
    | EVENT_COMMON
    | _sets(code="code"),
    "errors": EVENT_TIMES
    | _sets(
        code=(
            "code error_code error_id errorid error fehlercode fehler fehlernummer fehler_nr alarm alarm_code alarm_id "
            "stoercode meldung event_code message_code warning fault_code"
        ),
        component="component component_id bauteil baugruppe komponente",
        finding="message text meldungstext description beschreibung",
    ),
    "operating_states": EVENT_TIMES
    | _sets(code="state operating_state zustand betriebszustand betriebsart machine_state status"),
    "machines": _sets(
        machine_type="machine_type machinetype typ type maschinentyp model modell class klasse category equipment_type",
        functional_location=(
            "functional_location functional_loc funct_location func_loc platz technischer_platz techn_platz tplnr "
            "location standort ort site floc area werk"
        ),
        equipment=(
            "equipment equipment_no equipmentnummer equipment_number equipment_nr equi equnr serial serial_number "
            "seriennummer"
        ),
        criticality="criticality kritikalitaet abc abc_indicator prioritaet priority",
        valid_from=(
            "valid_from gueltig_ab installed installed_at installed_on install_date installation_date commissioned "
            "commissioned_at inbetriebnahme einbaudatum start_up_date since seit"
        ),
        valid_to="valid_to gueltig_bis removed removed_at retired decommissioned ausbaudatum until",
    ),
}
TIME_FIELDS = _set("started_at ended_at recorded_at valid_from valid_to")
NUMBER_FIELDS = _set("downtime_h cost")

# Columns of logs of several kinds, and their texts.
KIND = _set(
    "type event_type eventtype event kind event_kind art ereignis ereignisart ereignistyp category kategorie class "
    "klasse record_type entry_type log_type typ satzart meldungsart record entry eintrag eintragsart"
)
BREAKDOWN = _set(
    "breakdown breakdown_indicator breakdown_ind bd_ind ausfall maschinenausfall anlagenausfall ausfall_kz msaus"
)
NOTIFICATION_TYPE = _set(
    "notification_type notifictn_type notif_type notification_typ notif_typ qmart meldungsart meldeart"
)
ORDER_TYPE = _set(
    "order_type auftragsart auart worktype work_type wo_type maintenance_type instandhaltungsart wartungsart type art"
)
YES = _set("x yes ja true 1 y j wahr")
NO = _set("no nein false 0 n falsch") | {""}

# Pieces of file and folder names that tell a role.
FILE_WORDS: dict[Role, tuple[str, ...]] = {
    "failures": ("failure", "breakdown", "ausfaelle", "ausfall", "stoerung", "schaden", "defect"),
    "maintenance": ("maintenance", "maint", "wartung", "instandhaltung", "service", "work_order", "repair"),
    "errors": ("error", "alarm", "fehler", "fault", "warning", "meldungen"),
    "operating_states": ("state", "zustand", "zustaende", "operating_mode"),
    "machines": ("equipment", "machine", "asset", "maschinen", "anlagen", "stammdaten", "masterdata", "master_data"),
    "readings": ("reading", "sensor", "telemetr", "scada", "logger", "plc", "opc", "messwert", "messung",
                 "measurement", "historian", "trend", "export"),
}

# Pieces of a text -> canonical value; the first hit wins.
VALUES: dict[str, tuple[tuple[str, str], ...]] = {
    "trigger": (
        ("unknown", "unplan ungeplan nicht_geplant corrective correct korrektiv korrekt reactive reaktiv breakdown "
                    "stoer emergency notfall cm em pm01 pm03"),
        ("opportunistic", "opportun gelegenheit mitgenommen"),
        ("condition", "condition zustand predict cbm pdm vorausschauend befund alarm sensor monitor"),
        ("calendar", "calendar kalend schedul planned plan prevent vorbeug turnus frist interval periodic pm pm02"),
        ("millwright", "millwright"),
        ("unknown", "unknown unbekannt sonstig other"),
    ),
    "effect": (
        ("replaced", "replac ersetz ersatz tausch erneuer exchang swap renew neu_ new_"),
        ("repaired", "repair reparier reparatur instandges fix adjust justier nachgezog clean gereinig reinig lubric "
                     "geschmier schmier overhaul ueberhol corrective correct korrektiv korrekt reactive reaktiv unplan "
                     "ungeplan nicht_geplant breakdown stoer emergency notfall cm em pm01 pm03"),
        ("inspected", "inspect inspiz inspekt check prueft pruef sicht kontroll no_action none ohne"),
    ),
}  # fmt: skip
GENERIC = _set(
    "readings reading data daten export exports sensor sensors telemetry telemetrie messwerte trend trends "
    "historian history log logs values hourly daily monthly csv raw file part batch train test dump report mean "
    "average avg"
)
# What a sensor's name measures where it is no unit's.
MEASURED = _set(
    "temp temperature temperatur pressure press druck flow durchfluss level fuellstand vib vibration schwingung speed "
    "drehzahl current strom voltage spannung power leistung torque drehmoment humidity feuchte position rpm load last "
    "state status"
)
# Parts of one machine, that its sensors are named by.
PARTS = _set(
    "bearing lager stage stufe zone phase cylinder zylinder ch channel kanal sensor axis achse blade valve ventil "
    "probe winding wicklung shaft welle inlet outlet einlass auslass side seite nde de position pos input ai di"
)
