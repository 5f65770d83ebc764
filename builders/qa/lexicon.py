"""English words and stems that `grammar`, `negation` and `exclusion` look up."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DO = _words("do does did")
BE = _words("is are was were")
MODALS = _words("will would can could should may might must")
AUXILIARIES = DO | BE | MODALS
PRONOUNS = _words("he she they it we you i")
DETERMINERS = _words("""
    a an the this that these those his her its their my your our some any each every both all
    another other one two three four five six first second third last
""")
PREPOSITIONS = _words("""
    about above across after against along among around as at before behind below beside between
    by despite during for from in inside into like near of off on onto out outside over past
    since through throughout to toward towards under until up upon via while with within without
""")
CLAUSE_OPENERS = _words("when while after before because if as until since though")
# The next word belongs to these: to a relative clause, a coordination or another verb.
LINKS = _words("and or but who which that than start starts started keep keeps kept be")
LINKS |= BE | CLAUSE_OPENERS | PREPOSITIONS
ADVERBS = _words("first also then just still always all both even so very too only")
# Adverbs that certainly are some; "trevally" is a fish.
LY_ADVERBS = _words("""
    slowly quickly suddenly carefully repeatedly constantly continuously happily gently closely
    really actually initially finally mostly mainly probably easily frequently occasionally usually
    immediately eventually simultaneously excitedly angrily loudly quietly directly partially fully
    completely rapidly randomly intently playfully seriously nervously calmly
""")
# Verbs that govern a clause, into which a NOT would slip: "let the boy NOT do".
GOVERNING = _words("""
    ask expect help helping hear let letting like make making need order see seeing tell think
    try want watch watching
""")
COLOURS = _words("""
    red blue green yellow white black brown grey gray orange pink purple beige dark light
    striped checkered
""")
STATES = _words("""
    happy sad angry afraid scared wet dirty empty full able unable ready alone awake asleep
    there upset nervous curious careful late sick thirsty hungry cold hot busy outside inside
""")
# Words that look like participles but are none, or act as prepositions.
NOT_PARTICIPLES = _words("""
    red bed shed sled need seed feed speed weed hundred kid naked bleed breed indeed reed tweed
    something anything everything nothing thing king ring string swing wing evening morning
    building ceiling clothing railing pudding wedding spring sibling earring nearing during
    including according following checkered striped colored coloured multicolored multicoloured
""")
# Verbs that are also nouns of subjects ("the car seat", "the man in black dress").
NOUN_OR_VERB = _words("""
    back board bow brush cap clip coat comb cover cycle dress face fan film float hammer hand
    hat head hook light list mask mount order paint park part plant play plug pump ring sail
    seat shoe show slide sound step stick suit swing tie top train trap watch wave whip
""")
# Base form, simple past, past participle.
_IRREGULAR_FORMS = """
be/was/been; beat/beat/beaten; become/became/become; begin/began/begun; bend/bent/bent;
bite/bit/bitten; blow/blew/blown; break/broke/broken; bring/brought/brought; build/built/built;
burst/burst/burst; buy/bought/bought; catch/caught/caught; choose/chose/chosen;
cling/clung/clung; come/came/come; creep/crept/crept; cut/cut/cut; dig/dug/dug; do/did/done;
draw/drew/drawn; drink/drank/drunk; drive/drove/driven; eat/ate/eaten; fall/fell/fallen;
feed/fed/fed; feel/felt/felt; fight/fought/fought; find/found/found; flee/fled/fled;
fly/flew/flown; get/got/got; give/gave/given; go/went/gone; grow/grew/grown; hang/hung/hung;
have/had/had; hear/heard/heard; hide/hid/hidden; hit/hit/hit; hold/held/held; hurt/hurt/hurt;
keep/kept/kept; kneel/knelt/knelt; know/knew/known; lay/laid/laid; lead/led/led;
leave/left/left; let/let/let; lie/lay/lain; lose/lost/lost; make/made/made; meet/met/met;
pay/paid/paid; put/put/put; read/read/read; ride/rode/ridden; rise/rose/risen; run/ran/run;
say/said/said; see/saw/seen; sell/sold/sold; send/sent/sent; set/set/set; shake/shook/shaken;
shoot/shot/shot; show/showed/shown; shut/shut/shut; sing/sang/sung; sink/sank/sunk; sit/sat/sat;
sleep/slept/slept; slide/slid/slid; speak/spoke/spoken; spend/spent/spent; spin/spun/spun;
spit/spat/spat; spread/spread/spread; stand/stood/stood; steal/stole/stolen; stick/stuck/stuck;
strike/struck/struck; sweep/swept/swept; swim/swam/swum; swing/swung/swung; take/took/taken;
teach/taught/taught; tear/tore/torn; tell/told/told; think/thought/thought; throw/threw/thrown;
wake/woke/woken; wear/wore/worn; win/won/won; write/wrote/written
"""
IRREGULAR: dict[str, tuple[str, str]] = {
    base: (past, participle)
    for base, past, participle in (form.strip().split("/") for form in _IRREGULAR_FORMS.split(";"))
}
REGULAR = _words("""
    accept accompany achieve act adapt add address adjust admire advance agree aim allow amuse
    announce answer appear applaud apply approach arrange arrive ask assemble assist attach
    attack attempt attend attract avoid back balance bark bathe beckon blink block board boil
    bounce bow brace brake brush bury call calm capture care caress carry carve celebrate change
    chase chat check cheer chew chop circle clap claw clean clear clench click climb clip close
    clutch coax collapse collect comb comfort command communicate compare compete compliment
    concentrate conduct connect continue control convince cook cough count cover crack crash
    crawl create crouch cry cuddle curl cycle dab dance dangle dash decide decorate decrease
    defend deliver demonstrate describe detach differ dip direct disappear display distribute
    dive dodge doze drag drain dress drop dry dump edge embrace empty encourage end enjoy ensure
    enter entertain escape examine exchange excite exercise exhale exit explain express extend
    face fan fasten fetch fiddle fill film finish fix flap flick flinch flip float flush focus
    fold follow force frown fumble gain gather gaze gesture glance glide grab grasp greet grin
    grip groom guard guide hammer hand handle happen head help hesitate hook hop howl huddle hug
    hunt hurry ignore imitate increase indicate inhale insert inspect instruct interact
    interrupt introduce jab jerk jiggle jog join juggle jump kick kiss knit knock land lash
    latch laugh launch lick lift light like link list listen load look loosen love lower lure
    maintain manage march massage measure melt mix mop mount move nap need nibble nod nudge
    nuzzle observe obtain occur offer open operate orbit order overtake pack paddle paint pan
    park part pass pat pause pedal peek peel peep perch perform pet pick pinch pitch place play
    plug point poke pop pose position pounce pour practice practise pray prefer prepare present
    press pretend prevent print proceed produce promote prop propel protect prove pull pump
    punch push raise reach react reassure receive record recover reduce refer refuse reject
    relax release remain remind remove repair repeat replace reply rescue resist respond rest
    retrieve return reverse review rinse rip roar roll rotate row rub rush sail salute scare
    scatter scold scoop score scrape scratch scream scrub search seat secure seem select
    separate serve settle share shave shelter shield shift shiver shout shuffle sign signal sip
    skate ski skip slam slap slice slip slow smell smile smoke smooth snatch sneak sneeze sniff
    soak solve soothe sort sound spill splash spot spray squat squeeze squirt stab stack stamp
    stare start stay steady steer step stir stop strap stretch strip stroke struggle stumble
    submerge suck supply support surf surprise surround swallow swap swat sway switch tackle
    talk tangle tap target taste tease tend test thank tickle tie tighten tilt tiptoe topple
    toss touch tow trace train transfer transport trap travel tremble trim trip trot trust try
    tuck tug tumble turn twirl twist type uncover unlock unpack unroll untie unwrap use vacuum
    vary visit waddle wag wait walk wander want warm warn wash waste watch wave waver weigh whip
    whisk whisper whistle wiggle wink wipe wish wobble work worry wrap wrestle wriggle yank yawn
    yell zip zoom
""")
DOUBLED = _words("""
    chat chop clap clip control dab dip drag drop fan flap flip grab grin grip hop hug jab jog
    knit mop nap nod occur pan pat pet plug pop prefer prop propel refer rip rub scrub sip skip
    slam slap slip spot squat stab step stir stop strap strip swap swat tap tip transfer trap
    trim trip trot tug unwrap wag whip wrap zip
""")
NUMBERS = _words("""
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
    sixteen seventeen eighteen nineteen twenty thirty forty fifty hundred once twice none
""")
STOP_WORDS = _words("""
    a an the this that these those is are was were be been being am to of at in on with for and his
    her its their my your our he she it they him them himself herself itself themselves s t because
    so by from as then very while some each other together start starts started starting begin
    begins began again want wants wanted try tries tried trying
""")
# Places that contain other places: "outdoor" is not wrong where "park" is right.
BROAD_PLACES = _words("outdoor outsid indoor insid open area room hous hom home build")
AROUND = _words("outdoor outsid indoor insid")  # broad whatever words stand beside them
# Stems that mean the same in a video; the first replaces the others.
_SYNONYM_SETS = """
see look watch star gaz observ; talk speak chat convers discus speech presentation; pick tak grab;
mother mom mum; father dad; baby infant toddler; child kid children; lady woman women; man men
guy; laugh giggl; run jog; throw toss fling; happy joy joyful glad excit satisfi cheerful delight
pleas thrill excitement enthusiasm enthusiast exhilarat; sad upset unhappy; scar afraid frighten
fearful; angry annoy mad irritat; surpris shock amaz; tir exhaust; fast quick rapid; big larg;
small littl; finish end; stop halt; cup mug; pictur photo; sofa couch; bicycl bik; cry weep sob;
hug embrac; fall drop; caress strok pat pet; colleagu coworker; eat chew; away leav; shout yell
scream; rest relax comfortabl comfy; protect safety; use using used; forest wood wooded; person
peopl; knif kniv; shelf shelv; scarf scarv; wolf wolv; wif wiv; loaf loav; half halv; foot feet;
tooth teeth; mous mic; goos gees; television tv; phon cellphon smartphon telephon; cap hat; shoe
sneaker; coat jacket; stairs staircas stairway; road street; shop stor; begin start; shut clos;
jump leap hop; ship boat; garbag trash rubbish; movi film; lift rais; assist help; purchas buy;
mix stir blend whisk; mak creat build construct; demonstrat illustrat; kind friendly; tag badg;
steal theft; car automobil; airplan aircraft; doctor physician
"""
SYNONYMS = {word: words[0] for words in map(str.split, _SYNONYM_SETS.split(";")) for word in words}
# A stem and narrower stems: where "parent" is right, "mother" is not wrong.
_BROADER_SETS = """
parent: mother father; offspr: son daughter child; sibl: brother sister; child: son daughter boy
girl baby; person: man lady boy girl child baby; adult: man lady mother father parent; animal: dog
cat bird hors monkey bear; instrument: guitar piano drum violin flut trumpet; vehicl: car truck
bus van motorcycl; food: fruit bread cak meat ric egg soup pizza candy vegetabl noodl marshmallow;
toy: ball doll; ball: basketball football baseball; mov: walk run crawl swim jump danc swing
shimmy turn wav shak stretch bend lean kick step climb rotat spin roll slid fly skat rid swerv;
perform: danc sing play juggl drum strum; gestur: wav point nod clap; attack: kick hit punch bit
strik; touch: tap scratch strok poke hold hug; talk: say tell ask shout; react: laugh smil cry
shout; hurt: kick hit punch bit; clean: wip wash brush sweep; cook: fry bak boil roast grill;
shoot: film record photograph selfi; step: strid; school: classroom cafeteria; red: crimson maroon
scarlet burgundy; yellow: mustard gold amber; brown: chocolat; whit: ivory cream; blu: navy azur
turquois; green: lim oliv; purpl: violet lavend; pink: magenta; gray: silver; grey: silver;
rectangl: squar; fish: shark; farm: barn; steal: shoplift robbery burglary; sport: football
basketball tennis baseball soccer
"""
BROADER: dict[str, frozenset[str]] = {
    word.strip(): _words(narrow)
    for word, narrow in (entry.split(":") for entry in _BROADER_SETS.split(";"))
}
# Stems of options that may be right beside any other: "use his hands", "doing an activity".
VAGUE = _words("""
    use do doing activity action hand thing someth body mov react respond engag interact anyth
    behav perform
""")
# Stems of what an action that says no more is done with: "use its mouth", "move his arms".
BODY = _words("arm leg foot hand finger head mouth body lip tongu paw tail eye hip")
